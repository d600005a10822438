/* quantize/convert.h
 * Any model that opens, as one GGUF file that llama.cpp and bitnet.cpp read too. */
#ifndef TRIREME_QUANT_CONVERT_H
#define TRIREME_QUANT_CONVERT_H

#include <stdatomic.h>

#include "model/gguf_write.h"

typedef struct {
    model_type_t      ternary; /* of ternary layers: TQ2_0, TQ1_0, I2_S, I2_S_64, I2_S_R4 */
    model_type_t      embed;   /* of embedding and head; MODEL_NONE: as they are stored */
    const atomic_int *stop;    /* nonzero: give up; NULL: never */
} quant_convert_options_t;

typedef struct {
    char   arch[32];
    double rounding;    /* largest relative change of a scale by half precision; 0: none */
    char   rounded[80]; /* the tensor that it befell */

    uint32_t n_ternary; /* ternary tensors */
    uint32_t n_f16;     /* of them those in half precision: no ternary type has rows so long */
} quant_convert_report_t;

/* Write the file, by all CPUs, rows at a time: never more than a few MiB in memory. Ternary layers
 * are stored as options->ternary with the trits unchanged and the scale rounded to half precision
 * (TQ) or as it is (I2_S, which takes tensors of one scale only); `online` ones get their absolute
 * mean first. Where rows are no multiple of the type's block, the tensor becomes F16 (F16_TERN,
 * scale rounded) and the key trireme.ternary_tensors names it. Dense weights are copied as they
 * are, vectors become F32. Without sub-norms it becomes a "llama", and halves of q and k are
 * interleaved as llama.cpp has them; with sub-norms "bitnet" (SiLU) or "bitnet-b1.58" (squared
 * ReLU). The file appears when it is whole. *model gets the scales of `online` tensors and is
 * otherwise unchanged.
 * Status: OK | INPUT (damaged weights) | UNSUPPORTED (no form in GGUF; the text says what works) |
 * IO | LIMIT | MEMORY | INTERRUPTED. Local. */
base_status_t quant_convert(model_t *model, const char *path,
                            const quant_convert_options_t *options, quant_convert_report_t *report,
                            base_err_t *err);

/* Part of it: all keys but general.file_type, and the tokenizer. *divisors gets one factor for
 * each rotated pair when they need the tensor rope_freqs.weight, *n_divisors their number, else 0.
 * Status: OK | UNSUPPORTED | MEMORY. */
base_status_t quant_convert_keys(model_gguf_writer_t *writer, const model_t *model,
                                 const char *arch, float divisors[MODEL_ROPE_MAX],
                                 uint32_t *n_divisors, base_err_t *err);

/* llama.cpp's number for "mostly this type", general.file_type; UINT32_MAX: none that we know. */
uint32_t quant_file_type(model_type_t type);

#endif
