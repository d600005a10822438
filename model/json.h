/* model/json.h
 * Inside of the room: JSON of hostile files, by jansson, behind limits.
 *
 * A short file can make a parser take much memory or stack: depth and number of values are counted
 * before jansson sees the bytes. Duplicate keys are refused, so that no two readers disagree. */
#ifndef TRIREME_MODEL_JSON_H
#define TRIREME_MODEL_JSON_H

#include <jansson.h>

#include "model/model.h"

enum {
    MODEL_JSON_BYTES  = 64 << 20, /* of one file or header */
    MODEL_JSON_DEPTH  = 32,
    MODEL_JSON_VALUES = 4 << 20
};

/* Parse n bytes; `where` (a file's path) begins the texts. *out is the caller's to json_decref().
 * Status: OK | INPUT (no JSON) | LIMIT. Local. */
base_status_t model_json_parse(const char *bytes, uint64_t n, const char *where, json_t **out,
                               base_err_t *err);

/* The same for a file. Absent and not required: OK, *out untouched. Status: also IO | MEMORY. */
base_status_t model_json_load(const char *path, bool required, json_t **out, base_err_t *err);

/* Members of an object, checked. Absent or null: *out is left alone, an error if required.
 * Status: OK | INPUT | LIMIT; the text names file and member. */
base_status_t model_json_u32(const json_t *object, const char *key, const char *where,
                             bool required, uint32_t min, uint32_t max, uint32_t *out,
                             base_err_t *err);
base_status_t model_json_f64(const json_t *object, const char *key, const char *where,
                             bool required, double *out, base_err_t *err);
base_status_t model_json_bool(const json_t *object, const char *key, const char *where, bool *out,
                              base_err_t *err);
base_status_t model_json_str(const json_t *object, const char *key, const char *where,
                             bool required, model_str_t *out, base_err_t *err);

/* A member that is there and not null, else NULL. */
json_t *model_json_get(const json_t *object, const char *key);

bool model_json_is(const json_t *value, const char *text); /* a string of this text */

#endif
