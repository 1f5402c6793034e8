#include "idset.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "memory.h"

#define NONE ((size_t) -1)

struct entry {
    char *id;
    uint64_t hash;
    size_t chain; /* next in the same bucket */
    size_t newer; /* in order of use */
    size_t older;
};

struct idset {
    struct entry *entries;
    size_t *buckets;
    size_t capacity;
    size_t used;
    size_t newest;
    size_t oldest;
};


struct idset *idset_new(size_t capacity)
{
    struct idset *set = mem_zalloc(sizeof(*set));

    set->entries = mem_zalloc(capacity * sizeof(*set->entries));
    set->buckets = mem_alloc(capacity * sizeof(*set->buckets));
    set->capacity = capacity;
    set->newest = set->oldest = NONE;

    for (size_t i = 0; i < capacity; i++) {
        set->buckets[i] = NONE;
    }

    return set;
}


void idset_free(struct idset *set)
{
    for (size_t i = 0; i < set->used; i++) {
        free(set->entries[i].id);
    }

    free(set->entries);
    free(set->buckets);
    free(set);
}


static uint64_t hash_of(const char *id)
{
    uint64_t h = 14695981039346656037u; /* FNV-1a */

    while (*id != '\0') {
        h = (h ^ (unsigned char) *id++) * 1099511628211u;
    }

    return h;
}


static void take_out_of_order(struct idset *set, size_t i)
{
    struct entry *e = &set->entries[i];

    if (e->newer != NONE) {
        set->entries[e->newer].older = e->older;
    } else {
        set->newest = e->older;
    }

    if (e->older != NONE) {
        set->entries[e->older].newer = e->newer;
    } else {
        set->oldest = e->newer;
    }
}


static void make_newest(struct idset *set, size_t i)
{
    struct entry *e = &set->entries[i];

    e->newer = NONE;
    e->older = set->newest;

    if (set->newest != NONE) {
        set->entries[set->newest].newer = i;
    } else {
        set->oldest = i;
    }

    set->newest = i;
}


static size_t forget_oldest(struct idset *set)
{
    size_t i = set->oldest;
    struct entry *e = &set->entries[i];
    size_t *link = &set->buckets[e->hash % set->capacity];

    while (*link != i) {
        link = &set->entries[*link].chain;
    }

    *link = e->chain;
    take_out_of_order(set, i);
    free(e->id);

    return i;
}


bool idset_add(struct idset *set, const char *id)
{
    uint64_t hash = hash_of(id);
    size_t *bucket = &set->buckets[hash % set->capacity];
    struct entry *e;
    size_t i;

    for (i = *bucket; i != NONE; i = set->entries[i].chain) {
        if (set->entries[i].hash == hash
            && strcmp(set->entries[i].id, id) == 0) {
            take_out_of_order(set, i);
            make_newest(set, i);
            return false;
        }
    }

    i = set->used < set->capacity ? set->used++ : forget_oldest(set);

    e = &set->entries[i];
    e->id = mem_dup(id, strlen(id));
    e->hash = hash;
    e->chain = *bucket;
    *bucket = i;
    make_newest(set, i);

    return true;
}
