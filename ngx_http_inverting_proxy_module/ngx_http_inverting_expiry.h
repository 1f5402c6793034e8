
/*
 * Copyright (C) the inverting proxy authors
 */


#ifndef _NGX_HTTP_INVERTING_EXPIRY_H_INCLUDED_
#define _NGX_HTTP_INVERTING_EXPIRY_H_INCLUDED_


#include "ngx_http_inverting_zone.h"


/*
 * For the rescan of a worker: looks at some of the backends that were made
 * over the API, and deletes those whose agents have not been seen for as long
 * as expiry= says, counted from when the zone got them where that isn't known.
 */
void ngx_http_inverting_expire(ngx_http_inverting_zone_t *zone);


#endif /* _NGX_HTTP_INVERTING_EXPIRY_H_INCLUDED_ */
