/* model/gguf_write.h
 * Writing a GGUF file (v3) of any size with little memory.
 *
 * Order: open; keys and tensors, in any order; begin, which fixes the directory and reserves the
 * file's
 * whole size; rows of tensors, in any order and from any threads; finish. The file grows under a
 * temporary
 * name beside its own and takes its name in finish: nobody ever sees half a file. */
#ifndef TRIREME_MODEL_GGUF_WRITE_H
#define TRIREME_MODEL_GGUF_WRITE_H

#include "model/model.h"

typedef struct model_gguf_writer model_gguf_writer_t;

/* Create the temporary file "<path>.partial.<pid>". A path that exists as anything
 * but a regular file is refused. Status: OK | IO | LIMIT | MEMORY. Local. */
base_status_t model_gguf_writer_open(const char *path, model_gguf_writer_t **out, base_err_t *err);

/* Removes the temporary file unless finished. Accepts NULL. */
void model_gguf_writer_close(model_gguf_writer_t **writer);

/* Keys. Before begin. A key given twice, too long or with a NUL is a bug. Failures of memory are
 * kept and
 * reported by begin. */
void model_gguf_write_u32(model_gguf_writer_t *writer, const char *key, uint32_t value);
void model_gguf_write_f32(model_gguf_writer_t *writer, const char *key, float value);
void model_gguf_write_bool(model_gguf_writer_t *writer, const char *key, bool value);
void model_gguf_write_str(model_gguf_writer_t *writer, const char *key, const char *value);
void model_gguf_write_text(model_gguf_writer_t *writer, const char *key, model_str_t value);
void model_gguf_write_u32s(model_gguf_writer_t *writer, const char *key, const uint32_t *values,
                           uint32_t n);
void model_gguf_write_i32s(model_gguf_writer_t *writer, const char *key, const int32_t *values,
                           uint32_t n);
void model_gguf_write_f32s(model_gguf_writer_t *writer, const char *key, const float *values,
                           uint32_t n);
void model_gguf_write_strs(model_gguf_writer_t *writer, const char *key, const model_str_t *values,
                           uint32_t n);

/* Declare the next tensor, n_rows of n_cols (a vector if n_rows is 0). Returns its number, from
 * 0. */
uint32_t model_gguf_write_tensor(model_gguf_writer_t *writer, const char *name, model_type_t type,
                                 uint64_t n_rows, uint64_t n_cols);

/* Write the directory and reserve the space. Status: OK | IO (disk full, with the bytes wanted) |
 * LIMIT |
 * MEMORY. Local. */
base_status_t model_gguf_writer_begin(model_gguf_writer_t *writer, base_err_t *err);

/* Rows [row, row + n_rows) of a tensor in stored form; of I2_S_R4 whole groups of 4 rows. Each row
 * is to be written exactly once. Any thread, several at a time. Status: OK | IO. */
base_status_t model_gguf_write_rows(model_gguf_writer_t *writer, uint32_t tensor, uint64_t row,
                                    uint64_t n_rows, const void *data, base_err_t *err);

/* The scale of an I2_S tensor, which lies behind its rows; exactly once each. Any thread. Status as
 * above. */
base_status_t model_gguf_write_scale(model_gguf_writer_t *writer, uint32_t tensor, float scale,
                                     base_err_t *err);

/* Bytes of tensor data: all that is to come, and what was written so far. After begin; any
 * thread. */
uint64_t model_gguf_writer_total(const model_gguf_writer_t *writer);
uint64_t model_gguf_writer_done(const model_gguf_writer_t *writer);

/* All rows are there (asserted): flush to disk and rename. Status: OK | IO. */
base_status_t model_gguf_writer_finish(model_gguf_writer_t *writer, base_err_t *err);

#endif
