/* coordinator/normalise.h
 * Unicode normalisation forms (UAX 15), by libunistring: what a tokenizer.json names as NFC, NFD,
 * NFKC or NFKD is done to a text before it is cut into words. */
#ifndef TRIREME_COORDINATOR_NORMALISE_H
#define TRIREME_COORDINATOR_NORMALISE_H

#include "base/status.h"
#include "model/model.h"

/* *out: NULL if the text is in that form already (or form is MODEL_NORMAL_NONE), else the form of
 * it, *out_bytes long, malloc'd, the caller frees it. Bytes that are no UTF-8 stay as they are and
 * part the text: what is on their two sides is normalised apart.
 * Work grows as n log n. Status: OK | LIMIT (the result over LIMIT_TEXT_BYTES) | MEMORY. Pure. */
base_status_t coord_normalise(model_normal_t form, const char *text, size_t bytes, char **out,
                              size_t *out_bytes, base_err_t *err);

#endif
