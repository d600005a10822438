/* model/units.h
 * A tensor cut into units that do not depend on who holds what: what travels from a rank that has
 * the file to one that has not, and what a node keeps of it (--cache).
 *
 * A unit is 16 rows (a tile; the last may have fewer) of a strip of columns: all columns, or 256 of
 * them (the last strip may have fewer), rows one after the other in stored form. Types whose rows
 * share bytes (model_type_info_t.shared) travel as codes of 2 bits, four columns a byte, the
 * first in the lowest bits, each row from a byte of its own. */
#ifndef TRIREME_MODEL_UNITS_H
#define TRIREME_MODEL_UNITS_H

#include "model/model.h"

enum { MODEL_UNIT_ROWS = 16, MODEL_UNIT_COLS = 256 };

/* A rectangle of whole units; units are numbered tile by tile. */
typedef struct {
    model_tensor_t tensor;
    bool           strips; /* cut by columns too */
    uint64_t       tile0, n_tiles;
    uint64_t       strip0, n_strips;
} model_window_t;

/* The units that hold rows [row, row + n_rows) and columns [col, col + n_cols); neither is 0. */
model_window_t model_window(const model_tensor_t *tensor, bool strips, uint64_t row,
                            uint64_t n_rows, uint64_t col, uint64_t n_cols);
/* Does it lie in its tensor (which model_source_check has passed), and is it not empty? */
bool   model_window_check(const model_window_t *window);
size_t model_window_units(const model_window_t *window);
size_t model_window_bytes(const model_window_t *window);
/* Bytes of unit (tile, strip) of the tensor. */
size_t model_unit_bytes(const model_window_t *window, uint64_t tile, uint64_t strip);
/* That unit out of mapped files: model_unit_bytes() into out. */
void model_unit_copy(const model_source_t *source, const model_window_t *window, uint64_t tile,
                     uint64_t strip, uint8_t *out);

/* What model_generate_t is asked for, out of units[model_window_units()] of a window that holds
 * it. */
void model_window_blocks(const model_window_t *window, const uint8_t *const *units, uint64_t row,
                         uint64_t block, uint64_t n_blocks, uint8_t *out);

#endif
