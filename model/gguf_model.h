/* model/gguf_model.h
 * Inside of the room: from a GGUF directory to the shape and the tokenizer tables of a model. */
#ifndef TRIREME_MODEL_GGUF_MODEL_H
#define TRIREME_MODEL_GGUF_MODEL_H

#include "model/gguf.h"

/* Fill a zeroed desc from the keys and tensors. With vocab_only the architecture does not matter,
 * no
 * tensor is looked at, and what the keys do not say stays 0; n_layers is then 0.
 * Marks tensors as used. Status: OK | INPUT | UNSUPPORTED | LIMIT | MEMORY. Local. */
base_status_t model_gguf_desc(model_gguf_t *gguf, const model_source_t *source,
                              const model_open_options_t *options, model_desc_t *desc,
                              base_err_t *err);

/* Refuse a layout of I2_S that is clearly not that of the weights. Status: OK | INPUT | MEMORY. */
base_status_t model_i2s_check(const model_source_t *source, const model_desc_t *desc,
                              model_i2s_layout_t chosen, const char *path, base_err_t *err);

/* Fill a zeroed vocab; strings point into the source. Status as above. Local. */
base_status_t model_gguf_vocab(const model_gguf_t *gguf, model_vocab_t *vocab, base_err_t *err);
void          model_vocab_free(model_vocab_t *vocab); /* accepts zeroed */

/* Add the tensors of another file of the set; empties `from`. Status: OK | INPUT | LIMIT |
 * MEMORY. */
base_status_t model_gguf_merge(model_gguf_t *into, model_gguf_t *from, base_err_t *err);

#endif
