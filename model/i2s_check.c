/* model/i2s_check.c: is the chosen layout of I2_S plausible?
 *
 * The file does not say its layout, and each decodes to trits, so a wrong choice gives a model that
 * talks nonsense. What can be seen is structure that training leaves: how many weights of a channel
 * are not zero. A feed-forward channel is a row of gate and up and a column of down, and a residual
 * channel is a row of down and a column of gate and up. Read right, the two densities of a channel
 * go together; read wrong, columns (or rows too) are mixed up and they do not. Random weights show
 * nothing and pass. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "model/gguf_model.h"

enum { SAMPLE = 512, CHUNK = 1024, LAYOUTS = 3 };

static const struct {
    model_type_t type;
    const char  *name; /* of the option */
} layouts[LAYOUTS] = {
    [MODEL_I2S_X86]     = {MODEL_I2_S, "x86"},
    [MODEL_I2S_ARM]     = {MODEL_I2_S_64, "arm"},
    [MODEL_I2S_X86_OLD] = {MODEL_I2_S_R4, "x86-old"},
};

/* A correlation of n pairs is in units of 1 / sqrt(n) when nothing goes together. */
static const double CLEAR = 8;

static bool is_i2s(const model_tensor_t *t)
{
    return t->type == MODEL_I2_S || t->type == MODEL_I2_S_64 || t->type == MODEL_I2_S_R4;
}

static bool fits(const model_tensor_t *t, model_type_t type)
{
    const model_type_info_t *info = model_type_info(type);
    return t->n_cols % info->block_elems == 0 && (!info->shared || t->n_rows % 4 == 0);
}

/* Nonzero weights of rows (over the first columns) and of columns (over rows spread evenly), added
 * to what is there. False at a code 3. */
static bool densities(const model_source_t *source, const model_tensor_t *t, double *by_row,
                      double *by_col)
{
    const uint64_t width = t->n_cols < SAMPLE ? t->n_cols : SAMPLE;
    const uint64_t step  = t->n_rows < SAMPLE ? 1 : t->n_rows / SAMPLE;
    int8_t         trits[CHUNK];
    float          min = INFINITY;
    float          max = 0;
    for (uint64_t r = 0; r < t->n_rows; r++) {
        if (!model_row_trits(source, t, r, 0, width, trits, &min, &max)) return false;
        for (uint64_t c = 0; c < width; c++) by_row[r] += trits[c] != 0;
        if (r % step != 0) continue;
        for (uint64_t col = 0; col < t->n_cols; col += CHUNK) {
            const uint64_t n = t->n_cols - col < CHUNK ? t->n_cols - col : CHUNK;
            if (!model_row_trits(source, t, r, col, n, trits, &min, &max)) return false;
            for (uint64_t c = 0; c < n; c++) by_col[col + c] += trits[c] != 0;
        }
    }
    return true;
}

/* Pearson's r of n pairs, times sqrt(n). */
static double together(const double *x, const double *y, uint64_t n)
{
    double mx = 0, my = 0, xx = 0, yy = 0, xy = 0;
    for (uint64_t i = 0; i < n; i++) {
        mx += x[i] / (double)n;
        my += y[i] / (double)n;
    }
    for (uint64_t i = 0; i < n; i++) {
        xx += (x[i] - mx) * (x[i] - mx);
        yy += (y[i] - my) * (y[i] - my);
        xy += (x[i] - mx) * (y[i] - my);
    }
    return xx > 0 && yy > 0 ? xy / sqrt(xx * yy) * sqrt((double)n) : 0;
}

/* Scores of one layer in one layout, the better of the two kinds of channels. */
static base_status_t score_layer(const model_source_t *source, const model_layer_t *l,
                                 uint64_t width, model_type_t type, const char *path, double *score,
                                 base_err_t *err)
{
    static const model_layer_tensor_t which[] = {MODEL_FFN_GATE, MODEL_FFN_UP, MODEL_FFN_DOWN};
    double                           *sums    = NULL; /* rows and columns of gate and up, of down */
    const size_t                      n       = width + l->ffn;
    base_status_t st = base_alloc((void **)&sums, 2 * n, sizeof(*sums), "I2_S check", err);
    if (st != BASE_OK) return st;
    for (int i = 0; i < 3; i++) {
        model_tensor_t t    = l->t[which[i]];
        const bool     down = which[i] == MODEL_FFN_DOWN;
        t.type              = type;
        if (densities(source, &t, down ? sums + n : sums, down ? sums + n + width : sums + l->ffn))
            continue;
        st = base_fail(err, BASE_ERR_INPUT,
                       "%s: a feed-forward tensor holds the code 3, which I2_S does not have: "
                       "damaged file?",
                       path);
        goto out;
    }
    const double ffn      = fabs(together(sums, sums + n + width, l->ffn));
    const double residual = fabs(together(sums + l->ffn, sums + n, width));
    *score                = fmax(*score, fmax(ffn, residual));
out:
    free(sums);
    return st;
}

base_status_t model_i2s_check(const model_source_t *source, const model_desc_t *desc,
                              model_i2s_layout_t chosen, const char *path, base_err_t *err)
{
    double   score[LAYOUTS] = {0};
    int      best           = (int)chosen;
    uint32_t picks[2]       = {0, desc->n_layers / 2};
    for (int p = 0; p < (picks[1] == 0 ? 1 : 2); p++) {
        const model_layer_t *l = &desc->layers[picks[p]];
        if (!is_i2s(&l->t[MODEL_FFN_GATE]) || !is_i2s(&l->t[MODEL_FFN_UP]) ||
            !is_i2s(&l->t[MODEL_FFN_DOWN]))
            continue;
        for (int i = 0; i < LAYOUTS; i++) {
            if (!fits(&l->t[MODEL_FFN_UP], layouts[i].type) ||
                !fits(&l->t[MODEL_FFN_DOWN], layouts[i].type))
                continue;
            base_status_t st =
                score_layer(source, l, desc->width, layouts[i].type, path, &score[i], err);
            if (st != BASE_OK) return st;
            if (score[i] > score[best]) best = i;
        }
    }
    if (score[best] < CLEAR || score[best] < 2 * score[chosen]) return BASE_OK;
    return base_fail(err, BASE_ERR_INPUT,
                     "%s: its I2_S weights make no sense in layout %s, but do in %s (%.0f against "
                     "%.0f): give --i2s-layout %s",
                     path, layouts[chosen].name, layouts[best].name, score[chosen], score[best],
                     layouts[best].name);
}
