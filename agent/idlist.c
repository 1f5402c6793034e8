#include "idlist.h"

#include <stdbool.h>
#include <string.h>

#include <cjson/cJSON.h>


static bool is_id(const char *id)
{
    size_t n = strlen(id);

    for (size_t i = 0; i < n; i++) {
        if ((unsigned char) id[i] <= 0x20 || (unsigned char) id[i] >= 0x7f) {
            return false;
        }
    }

    return n > 0 && n <= ID_MAX;
}


static const char *check(const cJSON *list)
{
    const cJSON *item;

    if (!cJSON_IsArray(list)) {
        return "it is not a list";
    }

    cJSON_ArrayForEach(item, list) {
        if (!cJSON_IsString(item)) {
            return "it is not a list of strings";
        }
    }

    return NULL;
}


const char *idlist_parse(const char *text, size_t n,
                         void (*each)(void *arg, const char *id), void *arg)
{
    const cJSON *item;
    const char *error, *end;
    cJSON *list;

    while (n > 0 && (text[n - 1] == ' ' || text[n - 1] == '\t'
                     || text[n - 1] == '\r' || text[n - 1] == '\n')) {
        n--;
    }

    if (n == 0) {
        return NULL;
    }

    list = cJSON_ParseWithLengthOpts(text, n, &end, 0);
    if (list == NULL) {
        return "it is not JSON";
    }

    if (end != text + n) {
        cJSON_Delete(list);
        return "there is something behind the list";
    }

    if (cJSON_IsNull(list)) {
        cJSON_Delete(list);
        return NULL;
    }

    error = check(list);

    if (error == NULL) {
        cJSON_ArrayForEach(item, list) {
            if (is_id(item->valuestring)) {
                each(arg, item->valuestring);
            }
        }
    }

    cJSON_Delete(list);

    return error;
}
