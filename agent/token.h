/*
 * The bearer token of -token-file. The file is looked at each time, and read
 * again when it has changed.
 */

#ifndef AGENT_TOKEN_H
#define AGENT_TOKEN_H

struct token;

/* NULL if the file cannot be used; *why is a constant then, or strerror's. */
struct token *token_open(const char *path, const char **why);

/*
 * "Bearer …", valid until the next call. When the file has become unusable
 * that is logged once and the last good token stays in use.
 */
const char *token_value(struct token *token);

void token_close(struct token *token);

#endif
