/* model/gguf.h
 * The directory of a GGUF file (v2, v3): keys and tensors, checked, not yet interpreted.
 *
 * A file is: magic "GGUF", u32 version, u64 tensors, u64 keys; the keys (string, u32 type, value);
 * the tensors (string, u32 dims, u64 each, u32 type, u64 offset); padding to the alignment; data.
 * A string is u64 bytes and that many bytes. All little-endian, nothing aligned before the data.
 *
 * Everything is hostile: no count, length or offset is used before it has been compared with the
 * bytes
 * that are left and with base/limits.h. Nothing is copied: keys, names and values point into the
 * file. */
#ifndef TRIREME_MODEL_GGUF_H
#define TRIREME_MODEL_GGUF_H

#include "model/model.h"

typedef enum { /* the numbers of the format */
               MODEL_GGUF_U8,
               MODEL_GGUF_I8,
               MODEL_GGUF_U16,
               MODEL_GGUF_I16,
               MODEL_GGUF_U32,
               MODEL_GGUF_I32,
               MODEL_GGUF_F32,
               MODEL_GGUF_BOOL,
               MODEL_GGUF_STRING,
               MODEL_GGUF_ARRAY,
               MODEL_GGUF_U64,
               MODEL_GGUF_I64,
               MODEL_GGUF_F64,
               MODEL_GGUF_VALUE_COUNT
} model_gguf_value_t;

typedef struct {
    model_str_t        key;
    model_gguf_value_t type;     /* of the value, or of an array's elements; never ARRAY */
    bool               is_array; /* n elements; else n == 1 */
    uint64_t           n;
    const uint8_t     *data; /* first element, unaligned; strings with their lengths */
} model_gguf_key_t;

typedef struct {
    model_str_t  name;
    const char  *type_name; /* as GGUF knows it: "TQ2_0", "Q4_K" */
    model_type_t type;      /* MODEL_NONE: a type that we do not read; I2_S: any of its layouts */
    uint32_t     n_dims;
    uint64_t     dims[LIMIT_TENSOR_DIMS]; /* dims[0] runs fastest: the columns; 1 where absent */
    uint64_t     offset;                  /* from the file's start; multiple of the alignment */
    uint64_t     bytes; /* I2_S: with its trailer of 32 bytes, which begins with the scale */
    uint32_t     file;  /* which file of a set */
    bool         used;  /* for those who bind tensors and want to know what is left */
    bool         trits; /* named by the key trireme.ternary_tensors */
} model_gguf_tensor_t;

typedef struct {
    const char          *path; /* the source's */
    uint32_t             version;
    uint32_t             n_keys;
    uint32_t             n_tensors;
    uint64_t             alignment;
    uint64_t             data_offset; /* where tensor data begins */
    model_gguf_key_t    *keys;        /* sorted by key (length, then bytes) */
    model_gguf_tensor_t *tensors;     /* sorted by name likewise */
} model_gguf_t;

/* Read the directory of a file of a source. *out must be zeroed; free it with model_gguf_free(). It
 * points into the source. Status: OK | INPUT | UNSUPPORTED | LIMIT | MEMORY. Local. */
base_status_t model_gguf_parse(const model_source_t *source, uint32_t file, model_gguf_t *out,
                               base_err_t *err);
void          model_gguf_free(model_gguf_t *gguf); /* accepts zeroed */

/* NULL if absent. */
const model_gguf_key_t *model_gguf_key(const model_gguf_t *gguf, const char *key);
model_gguf_tensor_t    *model_gguf_tensor(const model_gguf_t *gguf, const char *name);

/* Typed values. Absent keys leave *out alone (the default) unless `required`; any integer type
 * serves as an
 * integer, F32 and F64 (and integers) as a float.
 * Status: OK | INPUT (absent, wrong type, below min, no number) | LIMIT (above max). */
base_status_t model_gguf_u32(const model_gguf_t *gguf, const char *key, bool required, uint32_t min,
                             uint32_t max, uint32_t *out, base_err_t *err);
base_status_t model_gguf_f64(const model_gguf_t *gguf, const char *key, bool required, double *out,
                             base_err_t *err);
base_status_t model_gguf_bool(const model_gguf_t *gguf, const char *key, bool *out,
                              base_err_t *err);
base_status_t model_gguf_str(const model_gguf_t *gguf, const char *key, bool required,
                             model_str_t *out, base_err_t *err);

/* n integers: an array of exactly n, or one value for all. */
base_status_t model_gguf_u32_each(const model_gguf_t *gguf, const char *key, bool required,
                                  uint32_t min, uint32_t max, uint32_t n, uint32_t *out,
                                  base_err_t *err);

/* Integer element i of a key (i < n), widened; false if the type is no integer or the value does
 * not fit. */
bool model_gguf_int_at(const model_gguf_key_t *key, uint64_t i, int64_t *out);

/* Take the string at *at (checked by the parser) and move behind it. */
model_str_t model_gguf_next_str(const uint8_t **at);

/* "u32", "array of string", ... */
const char *model_gguf_type_name(model_gguf_value_t type);

bool model_str_is(model_str_t str, const char *text);

#endif
