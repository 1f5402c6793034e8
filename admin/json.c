#include "json.h"

#include <stdio.h>
#include <stdlib.h>


const char *json_string(const cJSON *object, const char *name)
{
    return cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(object,
                                                                 name));
}


double json_value(const cJSON *object, const char *name)
{
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(object, name);

    return cJSON_IsNumber(item) ? item->valuedouble : 0;
}


const char *json_number(const cJSON *object, const char *name,
                        char out[JSON_NUMBER])
{
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(object, name);

    if (!cJSON_IsNumber(item)) {
        return NULL;
    }

    snprintf(out, JSON_NUMBER, "%.17g", item->valuedouble);

    return out;
}


void json_add(cJSON *object, const char *name, const char *value)
{
    if (value != NULL) {
        json_made(cJSON_AddStringToObject(object, name, value));
    }
}


void *json_made(void *p)
{
    if (p == NULL) {
        abort();
    }

    return p;
}
