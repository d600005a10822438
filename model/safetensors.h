/* model/safetensors.h
 * The directory of safetensors files: u64 bytes of a header, the header (JSON: name -> dtype,
 * shape, data_offsets [begin, end) from the header's end), data. All of it hostile. */
#ifndef TRIREME_MODEL_SAFETENSORS_H
#define TRIREME_MODEL_SAFETENSORS_H

#include "model/json.h"

enum { MODEL_ST_DIMS = 4 };

typedef enum {
    MODEL_ST_F32,
    MODEL_ST_F16,
    MODEL_ST_BF16,
    MODEL_ST_U8,
    MODEL_ST_OTHER /* sizes are checked, nobody reads it */
} model_st_dtype_t;

typedef struct {
    const char      *name; /* NUL-terminated, in the header's JSON */
    const char      *dtype_name;
    model_st_dtype_t dtype;
    uint32_t         n_dims;
    uint64_t         dims[MODEL_ST_DIMS]; /* 1 where absent */
    uint64_t         offset;              /* from the file's start */
    uint64_t         bytes;
    uint32_t         file;
    bool             used;
} model_st_tensor_t;

typedef struct {
    uint32_t           n_files;
    json_t           **headers; /* one a file: hold the names */
    uint32_t           n_tensors;
    model_st_tensor_t *tensors; /* sorted by name */
} model_st_t;

/* Read the headers of all files of a source. *out must be zeroed; model_st_free() it. A name in two
 * files, tensors that overlap or lie outside, shapes that do not fit their bytes are refused.
 * Status: OK | INPUT | LIMIT | MEMORY. Local. */
base_status_t model_st_parse(const model_source_t *source, model_st_t *out, base_err_t *err);
void          model_st_free(model_st_t *st); /* accepts zeroed */

model_st_tensor_t *model_st_find(const model_st_t *st, const char *name); /* NULL if absent */

#endif
