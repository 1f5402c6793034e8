#include "websocket.h"

#include <openssl/evp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#define NONCE 16
#define DIGEST 20 /* SHA-1 */
#define ACCEPT 28 /* characters */


void websocket_key(char key[WEBSOCKET_KEY])
{
    unsigned char nonce[NONCE], text[WEBSOCKET_KEY + 1];

    /* so few bytes come at once and whole */
    if (getrandom(nonce, sizeof(nonce), 0) != sizeof(nonce)) {
        abort();
    }

    EVP_EncodeBlock(text, nonce, NONCE);
    memcpy(key, text, WEBSOCKET_KEY);
}


bool websocket_accepts(const char key[WEBSOCKET_KEY], const struct head *h)
{
    static const char guid[] = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
    const struct field *f = head_field(h, "Sec-WebSocket-Accept");
    unsigned char digest[DIGEST], text[ACCEPT + 1];
    char both[WEBSOCKET_KEY + sizeof(guid) - 1];

    memcpy(both, key, WEBSOCKET_KEY);
    memcpy(both + WEBSOCKET_KEY, guid, sizeof(guid) - 1);

    if (EVP_Digest(both, sizeof(both), digest, NULL, EVP_sha1(), NULL) != 1) {
        return false;
    }

    EVP_EncodeBlock(text, digest, DIGEST);

    return f != NULL && f->value.n == ACCEPT
           && memcmp(f->value.p, text, ACCEPT) == 0;
}
