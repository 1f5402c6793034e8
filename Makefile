# The module is built by nginx's own build system, for the nginx of this machine:
# Debian's nginx-dev has its headers and the options it was configured with.  The
# agent is built here.  "make help" lists the targets.

SHELL = /bin/bash
.SHELLFLAGS = -o pipefail -ec
.DELETE_ON_ERROR:
MAKEFLAGS += --no-print-directory

# Where it goes; "make asan" uses build/asan.
BUILD = build

DESTDIR =
prefix = /usr/local
bindir = $(prefix)/bin
mandir = $(prefix)/share/man
bashdir = $(prefix)/share/bash-completion/completions

# V=1 shows the commands.
Q = $(if $(V),,@)

# Test files, how many at a time, and options for prove.
T = t/*.t
JOBS = 3
PROVE = prove

CC = gcc

NAME = ngx_http_inverting_proxy_module
NGX_SRC = /usr/share/nginx/src
NGX_BUILD = $(CURDIR)/$(BUILD)/nginx

MODULE = $(BUILD)/$(NAME).so
MODULE_SRC = $(wildcard $(NAME)/*.c)
MODULE_HDR = $(wildcard $(NAME)/*.h)

AGENT = $(BUILD)/inverting-proxy-agent
AGENT_SRC = $(wildcard agent/*.c)
AGENT_OBJ = $(AGENT_SRC:agent/%.c=$(BUILD)/agent/%.o)

# What of the agent the command for the API is made with, too.
ADMIN = $(BUILD)/inverting-proxy-admin
ADMIN_SRC = $(wildcard admin/*.c)
ADMIN_OBJ = $(ADMIN_SRC:admin/%.c=$(BUILD)/admin/%.o) \
            $(patsubst %,$(BUILD)/agent/%.o,buf log memory origin value)
ADMIN_GEN = $(BUILD)/admin/gen/gen

UNIT_SRC = $(wildcard agent/test/*.c admin/test/*.c)
UNIT = $(UNIT_SRC:%.c=$(BUILD)/%)

DEPS = gcc make pkg-config nginx nginx-dev libuv1-dev libcurl4-openssl-dev \
       libcjson-dev libsqlite3-dev libnghttp2-dev libssl-dev \
       perl libio-socket-ssl-perl libprotocol-http2-perl curl \
       nghttp2-client openssl procps
DEPS_TEST = gdb groff-base
DEPS_LINT = clang clang-tidy
DEPS_VALGRIND = valgrind
DEPS_BENCH = wrk valgrind
DEPS_TRIXIE = debootstrap util-linux

PACKAGES = libuv libcurl libcjson libnghttp2 libssl libcrypto
ADMIN_PACKAGES = libcurl libcjson

# The same hardening as Debian's for the module; for the agent it is spelled out.
# Parts of nginx hand null pointers with a length of zero to memcpy().
ifdef SANITIZE
SAN = -O1 -fno-omit-frame-pointer -fsanitize=address,undefined
NGX_CC_OPT = -g $(SAN) -fno-sanitize=nonnull-attribute -fPIC
NGX_LD_OPT = -fsanitize=address,undefined -fPIC
CFLAGS = -g $(SAN)
LDFLAGS = -fsanitize=address,undefined
else
NGX_CC_OPT = $$(dpkg-buildflags --get CPPFLAGS) \
             $$(dpkg-buildflags --get CFLAGS) -fPIC
NGX_LD_OPT = $$(dpkg-buildflags --get LDFLAGS) -Wl,-z,now -fPIC
CFLAGS = -O2 -g -U_FORTIFY_SOURCE -D_FORTIFY_SOURCE=2 -fstack-protector-strong
LDFLAGS = -Wl,-z,relro -Wl,-z,now
endif

AGENT_CFLAGS = -std=gnu11 -Wall -Wextra -Werror $(CFLAGS) \
               $$(pkg-config --cflags $(PACKAGES))
AGENT_LIBS = $$(pkg-config --libs $(PACKAGES))

ADMIN_CFLAGS = -std=gnu11 -Wall -Wextra -Werror $(CFLAGS) -I. \
               $$(pkg-config --cflags $(ADMIN_PACKAGES))
ADMIN_LIBS = $$(pkg-config --libs $(ADMIN_PACKAGES))

# What the tests want to know.
export INVERTING_PROXY_BUILD = $(CURDIR)/$(BUILD)


.PHONY: all help deps demo test check asan valgrind lint bench trixie install \
        clean module agent admin unit force

all: module agent admin ## build everything into build/

help:                   ## list the targets
	@sed -n 's/^\([a-z]*\):[^#]*## \(.*\)/  make \1\t\2/p' Makefile \
	    | expand -t 18
	@echo
	@echo "  make demo ONCE=1           one request of each sort, then exit"
	@echo "  make test T=t/000-*.t      some tests only; JOBS=n at a time"
	@echo "  make bench BENCH_SECONDS=2 shorter (bench/run says what else)"

deps:                   ## install the Debian packages that are missing
	@.ci/deps $(DEPS)

demo: deps              ## nginx, an agent and a backend, to look at
	@$(MAKE) all
	@t/demo/run $(if $(ONCE),--once)

test: deps              ## build and run the tests, and the demo once
	@.ci/deps $(DEPS_TEST)
	@$(MAKE) all unit
	@$(MAKE) check

# The demo's outcome counts, but does not keep the tests from running.
check:
	@once=0; \
	t/demo/run --once || once=$$?; \
	$(PROVE) -j$(JOBS) $(PROVE_FLAGS) $(T) $(UNIT); \
	if [ $$once != 0 ]; then echo "the demo failed"; exit 1; fi


# Module: configured again when there is another nginx, another list of sources,
# or other options; then nginx's makefile knows what to compile, but for headers.
# An nginx that runs with the old module goes on with it: it is not written over.

module: $(MODULE)
	@true

$(BUILD)/nginx.stamp: force
	@mkdir -p $(BUILD)
	@if [ ! -f $(NGX_SRC)/conf_flags ]; then \
	    echo "nginx-dev is missing: run \"make deps\"" >&2; exit 1; fi
	@{ cat $(NGX_SRC)/conf_flags; echo "$(CC) $(MODULE_SRC)"; \
	   echo "$(NGX_CC_OPT) $(NGX_LD_OPT)"; \
	   PATH=$$PATH:/usr/sbin nginx -v; } >$@.new 2>&1
	@cmp -s $@.new $@ && rm $@.new || mv $@.new $@

$(NGX_BUILD)/Makefile: config $(BUILD)/nginx.stamp
	@echo "configuring for the nginx of this machine"
	@rm -rf $(NGX_BUILD)
	@. $(NGX_SRC)/conf_flags; cd $(NGX_SRC); \
	./configure "$${NGX_CONF_FLAGS[@]}" --with-cc="$(CC)" \
	    --with-cc-opt="$(NGX_CC_OPT)" --with-ld-opt="$(NGX_LD_OPT)" \
	    --add-dynamic-module=$(CURDIR) --builddir=$(NGX_BUILD) \
	    >$(CURDIR)/$(BUILD)/configure.log 2>&1 \
	|| { rm -f $@; tail -n 20 $(CURDIR)/$(BUILD)/configure.log; exit 1; }

$(MODULE): $(NGX_BUILD)/Makefile $(MODULE_SRC) $(MODULE_HDR)
	@$(if $(filter %.h,$?),rm -f $(NGX_BUILD)/addon/*/*.o)
	@echo "building $@"
	@$(MAKE) $(if $(V),,-s) -C $(NGX_SRC) -f $(NGX_BUILD)/Makefile modules
	@cp --remove-destination $(NGX_BUILD)/$(NAME).so $@


# Agent

agent: $(AGENT)
	@true

$(BUILD)/agent.stamp: force
	@mkdir -p $(BUILD)/agent/test
	@echo '$(CC) $(AGENT_CFLAGS) $(LDFLAGS) $(AGENT_LIBS)' >$@.new
	@cmp -s $@.new $@ && rm $@.new || mv $@.new $@

$(BUILD)/agent/%.o: agent/%.c $(BUILD)/agent.stamp
	$(Q)$(CC) $(AGENT_CFLAGS) -MMD -MP -c -o $@ $<

$(AGENT): $(AGENT_OBJ)
	@$(if $(AGENT_SRC),,echo "there are no sources in agent/" >&2; exit 1)
	@echo "building $@"
	$(Q)$(CC) $(LDFLAGS) -o $@ $^ $(AGENT_LIBS)

# Unit tests print TAP; each has all of the agent but its main().
unit: $(UNIT)
	@true

$(BUILD)/agent/test/%: agent/test/%.c $(filter-out %/main.o,$(AGENT_OBJ)) \
                       $(BUILD)/agent.stamp
	$(Q)$(CC) $(AGENT_CFLAGS) -Iagent -MMD -MP $(LDFLAGS) -o $@ \
	    $(filter %.c %.o,$^) $(AGENT_LIBS)

-include $(AGENT_OBJ:.o=.d) $(UNIT:=.d)


# The command for the API, and what is made of its tables

admin: $(ADMIN) $(ADMIN).1 $(ADMIN).bash
	@true

$(BUILD)/admin.stamp: force
	@mkdir -p $(BUILD)/admin/gen $(BUILD)/admin/test
	@echo '$(CC) $(ADMIN_CFLAGS) $(LDFLAGS) $(ADMIN_LIBS)' >$@.new
	@cmp -s $@.new $@ && rm $@.new || mv $@.new $@

$(BUILD)/admin/%.o: admin/%.c $(BUILD)/admin.stamp
	$(Q)$(CC) $(ADMIN_CFLAGS) -MMD -MP -c -o $@ $<

$(ADMIN): $(ADMIN_OBJ)
	@echo "building $@"
	$(Q)$(CC) $(LDFLAGS) -o $@ $^ $(ADMIN_LIBS)

GEN_OBJ = $(patsubst %,$(BUILD)/admin/gen/%.o,main manual completion) \
          $(filter-out %/admin/main.o,$(ADMIN_OBJ))

$(ADMIN_GEN): $(GEN_OBJ)
	$(Q)$(CC) $(LDFLAGS) -o $@ $^ $(ADMIN_LIBS)

$(ADMIN).1: $(ADMIN_GEN)
	$(Q)$< manual >$@

$(ADMIN).bash: $(ADMIN_GEN) admin/completion.bash
	$(Q)$< completion | cat - admin/completion.bash >$@

$(BUILD)/admin/test/%: admin/test/%.c \
                       $(filter-out %/admin/main.o,$(ADMIN_OBJ)) \
                       $(BUILD)/admin.stamp
	$(Q)$(CC) $(ADMIN_CFLAGS) -MMD -MP $(LDFLAGS) -o $@ \
	    $(filter %.c %.o,$^) $(ADMIN_LIBS)

-include $(ADMIN_OBJ:.o=.d) $(GEN_OBJ:.o=.d)


# The tests again, under instruments.  The packaged nginx is not sanitized: the
# run-time libraries come into it with LD_PRELOAD, which the harness sets.  The
# reports are files, which fail the test that they belong to.

asan: deps              ## the tests with module and agent under ASan and UBSan
	@.ci/deps $(DEPS_TEST)
	@$(MAKE) BUILD=build/asan SANITIZE=1 all unit
	@INVERTING_PROXY_PRELOAD="$$($(CC) -print-file-name=libasan.so) \
	$$($(CC) -print-file-name=libubsan.so)" \
	INVERTING_PROXY_SLOW=3 UBSAN_OPTIONS=halt_on_error=1 \
	INVERTING_PROXY_BUILD=$(CURDIR)/build/asan \
	$(PROVE) -j$(JOBS) $(PROVE_FLAGS) $(T) \
	    $(UNIT:$(BUILD)/%=build/asan/%)

VALGRIND = valgrind --error-exitcode=99 --leak-check=full \
           --show-leak-kinds=definite,indirect \
           --errors-for-leak-kinds=definite,indirect

valgrind: deps          ## the tests with the agent under valgrind
	@.ci/deps $(DEPS_TEST) $(DEPS_VALGRIND)
	@$(MAKE) all unit
	@$(if $(UNIT),$(PROVE) --exec "$(VALGRIND) -q" $(UNIT))
	@INVERTING_PROXY_VALGRIND="$(VALGRIND)" INVERTING_PROXY_SLOW=6 \
	$(PROVE) -j$(JOBS) $(PROVE_FLAGS) $(T)


# The rules that a machine can check, and what another compiler sees.
lint: deps              ## style rules, clang's warnings, clang-tidy
	@.ci/deps $(DEPS_LINT)
	@$(MAKE) $(NGX_BUILD)/Makefile
	@NGX_SRC=$(NGX_SRC) NGX_BUILD=$(NGX_BUILD) JOBS=$(JOBS) \
	PACKAGES="$(PACKAGES)" .ci/lint


bench: deps             ## measure against plain nginx (about seven minutes)
	@.ci/deps $(DEPS_BENCH)
	@$(MAKE) all
	@bench/run

# Debian 13 in a folder: its nginx, its libraries, the same tests.
trixie: deps            ## build and test on Debian 13, in build/trixie
	@.ci/deps $(DEPS_TRIXIE)
	@.ci/trixie $(CURDIR)/build/trixie T="$(T)" JOBS=$(JOBS)


# As Debian's own modules: enabling one is a link in /etc/nginx/modules-enabled.
MODULES_PATH = $$(PATH=$$PATH:/usr/sbin nginx -V 2>&1 \
               | sed -n 's/.*--modules-path=\([^ ]*\).*/\1/p')
AVAILABLE = /usr/share/nginx/modules-available

install: all            ## install it all (DESTDIR, prefix)
	@path="$(MODULES_PATH)"; \
	install -d "$(DESTDIR)$$path" "$(DESTDIR)$(AVAILABLE)" \
	    "$(DESTDIR)$(bindir)" "$(DESTDIR)$(mandir)/man1" \
	    "$(DESTDIR)$(bashdir)"; \
	install -m 644 $(MODULE) "$(DESTDIR)$$path/$(NAME).so"; \
	install -m 755 $(AGENT) "$(DESTDIR)$(bindir)/inverting-proxy-agent"; \
	install -m 755 $(ADMIN) "$(DESTDIR)$(bindir)/inverting-proxy-admin"; \
	install -m 644 $(ADMIN).1 "$(DESTDIR)$(mandir)/man1/"; \
	install -m 644 $(ADMIN).bash "$(DESTDIR)$(bashdir)/inverting-proxy-admin"; \
	echo "load_module modules/$(NAME).so;" \
	    >"$(DESTDIR)$(AVAILABLE)/mod-http-inverting-proxy.conf"; \
	echo "to load the module: ln -s $(AVAILABLE)/mod-http-inverting-proxy.conf" \
	    "/etc/nginx/modules-enabled/50-mod-http-inverting-proxy.conf"

clean:                  ## remove build/ (but for build/trixie)
	@if [ -d build ]; then \
	    find build -mindepth 1 -maxdepth 1 ! -name trixie -exec rm -rf {} +; fi

force:
