/* model/source.h
 * Inside of the room: the bytes of a source, and sources that are no files. */
#ifndef TRIREME_MODEL_SOURCE_H
#define TRIREME_MODEL_SOURCE_H

#include "model/model.h"

/* All bytes of a mapped file; NULL for a generated source. */
const uint8_t *model_source_data(const model_source_t *source, uint32_t file);

/* The file's pages need not count as this process's memory. */
void model_source_forget(const model_source_t *source, uint32_t file);

/* Is there nothing of this name? A link to nothing is something, so that opening it says so. */
bool model_source_absent(const char *path);

/* A source over bytes that the caller keeps alive and unchanged; `label` (copied) stands for the
 * path in texts. For fuzzing and tests. Status: OK | MEMORY. Local. */
base_status_t model_source_wrap(const void *bytes, uint64_t n_bytes, const char *label,
                                model_source_t **out, base_err_t *err);

/* model_open() on an open source of one GGUF file; takes *source over, in any case, and sets it
 * NULL. */
base_status_t model_open_source(model_source_t **source, bool vocab_only, model_t **out,
                                base_err_t *err);
base_status_t model_open_source_with(model_source_t **source, const model_open_options_t *options,
                                     model_t **out, base_err_t *err);

#endif
