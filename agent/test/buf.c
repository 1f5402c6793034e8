/* Buffers, and the memory they are made of. */

#include <stdlib.h>
#include <string.h>

#include "buf.h"
#include "memory.h"
#include "tap.h"

#define BLOCKS 1000


/* Bytes that count up, in and out in pieces of many sizes. */
static void queue(void)
{
    struct buf b = {0};
    unsigned char in = 0, out = 0;
    bool right = true, spare = true;
    char piece[3000];

    for (size_t i = 1; i < 2000; i++) {
        size_t n = i * 7919 % sizeof(piece);

        for (size_t j = 0; j < n; j++) {
            piece[j] = (char) in++;
        }

        buf_append(&b, piece, n);
        n = i % 50 == 0 ? buf_len(&b) : buf_len(&b) / 2;

        for (size_t j = 0; j < n; j++) {
            right = right && (unsigned char) buf_ptr(&b)[j] == out++;
        }

        buf_consume(&b, n);
        spare = spare && (buf_len(&b) > 0 || b.cap <= 4096);
    }

    OK(right, "what goes in comes out");
    OK(spare, "an empty buffer is small");
    buf_free(&b);
    OK(b.data == NULL && b.cap == 0 && buf_len(&b) == 0, "freed");
}


static void spares(void)
{
    static char *blocks[BLOCKS];
    struct mem_spares s = {.size = 100};
    bool own = true;

    for (int round = 0; round < 2; round++) {
        for (int i = 0; i < BLOCKS; i++) {
            blocks[i] = mem_take(&s);
            memset(blocks[i], i & 0x7f, s.size);
        }

        for (int i = 0; i < BLOCKS; i++) {
            own = own && blocks[i][0] == (i & 0x7f)
                  && blocks[i][s.size - 1] == (i & 0x7f);
            mem_give(&s, blocks[i]);
        }
    }

    OK(own, "each block has one owner");
    OK(s.n < BLOCKS / 10, "few are kept");

    while (s.first != NULL) {
        free(mem_take(&s));
    }

    OK(s.n == 0, "and can be used up");
}


int main(void)
{
    queue();
    spares();

    return tap_done();
}
