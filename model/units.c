/* model/units.c: tensors cut into units. */
#include "model/units.h"

#include <string.h>

#include "base/checked.h"
#include "model/blocks.h"

static uint64_t strip_cols(const model_window_t *w)
{
    return w->strips ? MODEL_UNIT_COLS : w->tensor.n_cols;
}

static uint64_t n_tiles(const model_window_t *w)
{
    return (w->tensor.n_rows + MODEL_UNIT_ROWS - 1) / MODEL_UNIT_ROWS;
}

static uint64_t n_strips(const model_window_t *w)
{
    return (w->tensor.n_cols + strip_cols(w) - 1) / strip_cols(w);
}

/* Columns of strip `strip`. */
static uint64_t cols_of(const model_window_t *w, uint64_t strip)
{
    return base_min_size(strip_cols(w), w->tensor.n_cols - strip * strip_cols(w));
}

static uint64_t rows_of(const model_window_t *w, uint64_t tile)
{
    return base_min_size(MODEL_UNIT_ROWS, w->tensor.n_rows - tile * MODEL_UNIT_ROWS);
}

static size_t row_bytes(const model_window_t *w, uint64_t cols)
{
    if (model_type_info(w->tensor.type)->shared) return (cols + 3) / 4;
    return model_row_bytes(w->tensor.type, cols);
}

model_window_t model_window(const model_tensor_t *tensor, bool strips, uint64_t row, uint64_t rows,
                            uint64_t col, uint64_t cols)
{
    model_window_t w = {.tensor = *tensor, .strips = strips};
    base_assert(rows > 0 && cols > 0 && row + rows <= tensor->n_rows &&
                col + cols <= tensor->n_cols);
    w.tile0    = row / MODEL_UNIT_ROWS;
    w.n_tiles  = (row + rows - 1) / MODEL_UNIT_ROWS + 1 - w.tile0;
    w.strip0   = col / strip_cols(&w);
    w.n_strips = (col + cols - 1) / strip_cols(&w) + 1 - w.strip0;
    return w;
}

bool model_window_check(const model_window_t *w)
{
    /* model_source_check has bounded rows and columns, so the counts are small. */
    return w->n_tiles > 0 && w->n_strips > 0 && w->tile0 < n_tiles(w) &&
           w->n_tiles <= n_tiles(w) - w->tile0 && w->strip0 < n_strips(w) &&
           w->n_strips <= n_strips(w) - w->strip0;
}

size_t model_window_units(const model_window_t *window)
{
    return window->n_tiles * window->n_strips;
}

size_t model_unit_bytes(const model_window_t *window, uint64_t tile, uint64_t strip)
{
    return rows_of(window, tile) * row_bytes(window, cols_of(window, strip));
}

size_t model_window_bytes(const model_window_t *window)
{
    const uint64_t last = window->tile0 + window->n_tiles - 1;
    const uint64_t rows = (window->n_tiles - 1) * MODEL_UNIT_ROWS + rows_of(window, last);
    size_t         row  = 0;
    for (uint64_t s = 0; s < window->n_strips; s++)
        row += row_bytes(window, cols_of(window, window->strip0 + s));
    return rows * row;
}

/* The own codes of a row out of bytes that it shares. */
static void copy_codes(const model_source_t *source, const model_tensor_t *t, uint64_t row,
                       uint64_t col, uint64_t cols, uint8_t *out)
{
    unsigned       shift = 0;
    const uint8_t *from  = model_shared_row(source, t, row, &shift) + col;
    memset(out, 0, (cols + 3) / 4);
    for (uint64_t i = 0; i < cols; i++)
        out[i / 4] = (uint8_t)(out[i / 4] | (from[i] >> shift & 3) << i % 4 * 2);
}

void model_unit_copy(const model_source_t *source, const model_window_t *window, uint64_t tile,
                     uint64_t strip, uint8_t *out)
{
    const model_tensor_t    *t     = &window->tensor;
    const model_type_info_t *info  = model_type_info(t->type);
    const uint64_t           col   = strip * strip_cols(window);
    const uint64_t           cols  = cols_of(window, strip);
    const size_t             bytes = row_bytes(window, cols);
    for (uint64_t r = 0; r < rows_of(window, tile); r++, out += bytes) {
        const uint64_t row = tile * MODEL_UNIT_ROWS + r;
        if (info->shared)
            copy_codes(source, t, row, col, cols, out);
        else
            memcpy(out,
                   model_row(source, t, row) + col / info->block_elems * (size_t)info->block_bytes,
                   bytes);
    }
}

/* Bytes as those that a row shares, with codes of this row alone in them. */
static void spread_codes(const model_tensor_t *t, uint64_t row, const uint8_t *codes,
                         uint64_t first, uint64_t n, uint8_t *out)
{
    const unsigned shift = model_shared_shift(t, row);
    for (uint64_t i = 0; i < n; i++) {
        const uint64_t c = first + i;
        out[i]           = (uint8_t)((codes[c / 4] >> c % 4 * 2 & 3) << shift);
    }
}

void model_window_blocks(const model_window_t *window, const uint8_t *const *units, uint64_t row,
                         uint64_t block, uint64_t n_blocks, uint8_t *out)
{
    const model_type_info_t *info = model_type_info(window->tensor.type);
    const uint64_t           tile = row / MODEL_UNIT_ROWS;
    const uint64_t           per  = strip_cols(window) / info->block_elems; /* blocks of a strip */
    base_assert(tile >= window->tile0 && tile - window->tile0 < window->n_tiles);
    while (n_blocks > 0) {
        const uint64_t strip = block / per;
        const uint64_t first = block % per;
        const uint64_t n     = base_min_size(n_blocks, per - first);
        base_assert(strip >= window->strip0 && strip - window->strip0 < window->n_strips);
        const uint8_t *unit =
            units[(tile - window->tile0) * window->n_strips + strip - window->strip0];
        const uint8_t *at =
            unit + row % MODEL_UNIT_ROWS * row_bytes(window, cols_of(window, strip));
        if (info->shared) {
            spread_codes(&window->tensor, row, at, first, n, out);
            out += n;
        } else {
            memcpy(out, at + first * info->block_bytes, n * info->block_bytes);
            out += n * info->block_bytes;
        }
        block += n;
        n_blocks -= n;
    }
}
