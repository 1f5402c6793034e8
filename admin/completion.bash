# The words are taken from the line as it was typed: bash would break them at
# ":" and "=" too. Neither ids nor addresses have a space in them.

_inverting_proxy_admin()
{
    local program=$1 line=${COMP_LINE:0:COMP_POINT}
    local REPLY word pending='' command='' last i kind list=''
    local -a typed words=() ask=()

    COMPREPLY=()
    read -ra typed <<<"$line"
    [[ $line != *[[:space:]] ]] || typed+=('')
    last=${typed[-1]}

    # What stands before: the command's words, and where the server is.
    for word in "${typed[@]:1:${#typed[@]}-2}"; do
        word=${word/#\~\//$HOME/}

        if [[ $pending ]]; then
            case $pending in
                --server|--config) ask+=("$pending=$word") ;;
            esac
            pending=''
            continue
        fi

        case $word in
            --config=*) ask+=("${word/#--config=\~\//--config=$HOME/}") ;;
            --server=*) ask+=("$word") ;;
            -*) _inverting_proxy_admin_value "$word"
                [[ ! $REPLY ]] || pending=$word ;;
            *) words+=("$word") ;;
        esac
    done

    # The value of an option, as the next word or behind "="; bash replaces
    # what is behind "=" only.
    if [[ ! $pending && $last == --*=* ]]; then
        pending=${last%%=*}
        last=${last#*=}
    fi

    if [[ $pending ]]; then
        _inverting_proxy_admin_value "$pending"

        if [[ $REPLY == file ]]; then
            compopt -o filenames 2>/dev/null
            mapfile -t COMPREPLY < <(compgen -f -- "$last")
        fi

        return
    fi

    # The longest beginning that is a command, and how many words follow.
    _inverting_proxy_admin_next "${words[0]}"
    i=1
    [[ ! $REPLY || ${#words[@]} -lt 2 ]] || i=2
    command=${words[*]:0:i}

    if [[ $last == -* ]]; then
        _inverting_proxy_admin_options "$command"
        mapfile -t COMPREPLY < <(compgen -W "$REPLY" -- "$last")
        return
    fi

    if [[ ${words[0]} == help ]]; then
        _inverting_proxy_admin_next "${words[*]:1}"
        mapfile -t COMPREPLY < <(compgen -W "$REPLY" -- "$last")
        return
    fi

    _inverting_proxy_admin_next "$command"
    list=$REPLY
    _inverting_proxy_admin_argument "$command" $((${#words[@]} - i))
    kind=$REPLY

    # Nothing is said if the server is not there: there is nothing to complete.
    case $kind in
        backend) list=$("$program" backends list --quiet --timeout 2 \
                               "${ask[@]}" 2>/dev/null </dev/null) ;;
        key) list=$("$program" keys list "${words[2]}" --quiet --timeout 2 \
                               "${ask[@]}" 2>/dev/null </dev/null) ;;
    esac

    mapfile -t COMPREPLY < <(compgen -W "$list" -- "$last")
} && complete -F _inverting_proxy_admin inverting-proxy-admin
