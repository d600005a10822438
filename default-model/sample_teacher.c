// Samples stories from the 3.1M-parameter ternary model of bitllama2.c (MIT), to train the bundled
// model on: the published samples are cold (temperature 0.45 to 0.85) and all begin alike; these
// go on from the openings of real stories. sample_teacher.py writes the inputs and reads the
// output.
//
//   sample_teacher MODEL.bin PROMPTS.bin OUT.bin SEED
//
// Four sequences run in step, so that a row of weights is read once for all of them.

#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    D      = 256,
    L      = 8,
    H      = 8,
    KV     = 4,
    HD     = 32,
    V      = 512,
    T      = 512,
    S      = 4,
    BOS    = 1,
    EOS    = 2,
    PROMPT = 200
};

typedef struct {
    int8_t  w[D * D];
    int32_t row_sum[D];
    float   g;
    int     rows;
} linear;

typedef struct {
    float  attn_norm[D], attn_sub_norm[D], ffn_norm[D], ffn_sub_norm[D];
    linear q, k, v, o, gate, up, down;
} layer;

typedef struct {
    int32_t length, ids[PROMPT];
    float   temperature;
} prompt;

typedef struct {
    float    x[D];
    uint16_t keys[L][KV * HD][T], values[L][T][KV * HD]; // bfloat16: the cache must fit the CPU's
    int32_t  ids[T + 1];
    int      length, prompt_length;
    float    temperature;
    int      live;
} sequence;

static layer    layers[L];
static float    embedding[V][D], output_norm[D];
static float    rope_cos[T][HD / 2], rope_sin[T][HD / 2];
static sequence slots[S];
static uint64_t random_state;

static float wide(uint16_t b)
{
    uint32_t u = (uint32_t)b << 16;
    float    f;
    memcpy(&f, &u, sizeof f);
    return f;
}

static uint16_t narrow(float f)
{
    uint32_t u;
    memcpy(&u, &f, sizeof u);
    return (uint16_t)((u + 0x8000u) >> 16);
}

static float uniform(void)
{
    random_state ^= random_state >> 12;
    random_state ^= random_state << 25;
    random_state ^= random_state >> 27;
    return (float)((random_state * 2685821657736338717u) >> 40) / 16777216.0f;
}

static void need(FILE *f, void *to, size_t size)
{
    if (fread(to, 1, size, f) != size) {
        fprintf(stderr, "short read\n");
        exit(1);
    }
}

static void load_linear(FILE *f, linear *l, int rows)
{
    l->rows = rows;
    need(f, &l->g, sizeof l->g);
    need(f, l->w, (size_t)rows * D);
    for (int i = 0; i < rows; i++) {
        for (int j = 0; j < D; j++) l->row_sum[i] += l->w[i * D + j];
    }
}

static void load(const char *path)
{
    FILE *f = fopen(path, "rb");
    if (!f) exit(1);
    need(f, embedding, sizeof embedding);
    need(f, output_norm, sizeof output_norm);
    for (int i = 0; i < L; i++) {
        layer *y = &layers[i];
        need(f, y->attn_norm, 4 * D * sizeof(float));
        load_linear(f, &y->q, D);
        load_linear(f, &y->k, KV * HD);
        load_linear(f, &y->v, KV * HD);
        load_linear(f, &y->o, D);
        load_linear(f, &y->gate, D);
        load_linear(f, &y->up, D);
        load_linear(f, &y->down, D);
    }
    fclose(f);
    for (int p = 0; p < T; p++) {
        for (int i = 0; i < HD / 2; i++) {
            float angle    = (float)p * powf(10000.0f, -(float)i / (HD / 2));
            rope_cos[p][i] = cosf(angle);
            rope_sin[p][i] = sinf(angle);
        }
    }
}

static void norm(float *out, const float *x, const float *w)
{
    float sum = 0;
    for (int i = 0; i < D; i++) sum += x[i] * x[i];
    float r = 1.0f / sqrtf(sum / D + 1e-6f);
    for (int i = 0; i < D; i++) out[i] = x[i] * r * w[i];
}

static void multiply(float out[S][D], float in[S][D], const linear *l)
{
    static uint8_t codes[S][D];
    float          scale[S];
    for (int s = 0; s < S; s++) {
        float a = 1e-5f;
        for (int j = 0; j < D; j++) a = fmaxf(a, fabsf(in[s][j]));
        for (int j = 0; j < D; j++)
            codes[s][j] = (uint8_t)((int)rintf(in[s][j] * (127.0f / a)) + 128);
        scale[s] = a / 127.0f * l->g;
    }
    for (int i = 0; i < l->rows; i++) {
        const int8_t *w = l->w + i * D;
        for (int s = 0; s < S; s++) {
            int32_t sum = 0;
            for (int j = 0; j < D; j++) sum += (int32_t)codes[s][j] * w[j];
            out[s][i] = (float)(sum - 128 * l->row_sum[i]) * scale[s];
        }
    }
}

static void rotate(float *x, int heads, int p)
{
    for (int h = 0; h < heads; h++, x += HD) {
        for (int i = 0; i < HD / 2; i++) {
            float a = x[i], b = x[i + HD / 2];
            x[i]          = a * rope_cos[p][i] - b * rope_sin[p][i];
            x[i + HD / 2] = b * rope_cos[p][i] + a * rope_sin[p][i];
        }
    }
}

static void attend(float *out, const float *q, sequence *s, int i, int p)
{
    float score[T];
    for (int h = 0; h < H; h++) {
        int   base = h / (H / KV) * HD;
        float peak = -INFINITY, total = 0, y[HD] = {0};
        memset(score, 0, sizeof score);
        for (int d = 0; d < HD; d++) {
            for (int t = 0; t <= p; t++)
                score[t] += q[h * HD + d] * 0.17677669f * wide(s->keys[i][base + d][t]);
        }
        for (int t = 0; t <= p; t++) peak = fmaxf(peak, score[t]);
        for (int t = 0; t <= p; t++) {
            score[t] = expf(score[t] - peak);
            total += score[t];
        }
        for (int t = 0; t <= p; t++) {
            for (int d = 0; d < HD; d++) y[d] += score[t] * wide(s->values[i][t][base + d]);
        }
        for (int d = 0; d < HD; d++) out[h * HD + d] = y[d] / total;
    }
}

static void add(float in[S][D])
{
    for (int s = 0; s < S; s++) {
        for (int j = 0; j < D; j++) slots[s].x[j] += in[s][j];
    }
}

static void run_layer(int i)
{
    static float a[S][D], b[S][D], c[S][D];
    layer       *y = &layers[i];
    for (int s = 0; s < S; s++) norm(a[s], slots[s].x, y->attn_norm);
    multiply(b, a, &y->k);
    multiply(c, a, &y->v);
    for (int s = 0; s < S; s++) {
        int p = slots[s].length - 1;
        rotate(b[s], KV, p);
        for (int j = 0; j < KV * HD; j++) {
            slots[s].keys[i][j][p]   = narrow(b[s][j]);
            slots[s].values[i][p][j] = narrow(c[s][j]);
        }
    }
    multiply(b, a, &y->q);
    for (int s = 0; s < S; s++) {
        int p = slots[s].length - 1;
        rotate(b[s], H, p);
        attend(c[s], b[s], &slots[s], i, p);
        norm(a[s], c[s], y->attn_sub_norm);
    }
    multiply(b, a, &y->o);
    add(b);
    for (int s = 0; s < S; s++) norm(a[s], slots[s].x, y->ffn_norm);
    multiply(b, a, &y->gate);
    multiply(c, a, &y->up);
    for (int s = 0; s < S; s++) {
        for (int j = 0; j < D; j++) c[s][j] *= b[s][j] / (1.0f + expf(-b[s][j]));
        norm(a[s], c[s], y->ffn_sub_norm);
    }
    multiply(b, a, &y->down);
    add(b);
}

// Draws a token; those less likely than 0.4 % of the likeliest are left out.
static int draw(sequence *s)
{
    float x[D], p[V], peak = -INFINITY, total = 0;
    norm(x, s->x, output_norm);
    for (int v = 0; v < V; v++) {
        float dot = 0;
        for (int j = 0; j < D; j++) dot += x[j] * embedding[v][j];
        p[v] = dot / s->temperature;
        peak = fmaxf(peak, p[v]);
    }
    for (int v = 0; v < V; v++) {
        p[v] = expf(p[v] - peak);
        if (p[v] < 0.004f) p[v] = 0;
        total += p[v];
    }
    float u = uniform() * total;
    for (int v = 0; v < V; v++) {
        u -= p[v];
        if (u < 0 && p[v] > 0) return v;
    }
    return EOS;
}

static void start(sequence *s, FILE *prompts)
{
    prompt p;
    s->live = fread(&p, sizeof p, 1, prompts) == 1;
    if (!s->live) {
        s->length = 1;
        return;
    }
    memcpy(s->ids, p.ids, sizeof p.ids);
    s->prompt_length = p.length;
    s->temperature   = p.temperature;
    s->length        = 1;
}

static void finish(sequence *s, FILE *out)
{
    int32_t n = s->length;
    fwrite(&n, sizeof n, 1, out);
    fwrite(s->ids, sizeof s->ids[0], (size_t)n, out);
}

int main(int argc, char **argv)
{
    if (argc != 5) return 2;
    load(argv[1]);
    FILE *prompts = fopen(argv[2], "rb"), *out = fopen(argv[3], "wb");
    random_state = strtoull(argv[4], NULL, 10) * 2654435769u + 88172645463325252u;
    if (!prompts || !out) return 1;
    int live = 0;
    for (int s = 0; s < S; s++) {
        start(&slots[s], prompts);
        live += slots[s].live;
    }
    while (live) {
        for (int s = 0; s < S; s++)
            memcpy(slots[s].x, embedding[slots[s].ids[slots[s].length - 1]], sizeof slots[s].x);
        for (int i = 0; i < L; i++) run_layer(i);
        for (int s = 0; s < S; s++) {
            sequence *q = &slots[s];
            if (!q->live) continue;
            int token = q->length < q->prompt_length ? q->ids[q->length] : draw(q);
            if (token != EOS && token != BOS && q->length < T) {
                q->ids[q->length++] = token;
                continue;
            }
            if (q->length < T) finish(q, out);
            start(q, prompts);
            live -= !q->live;
        }
    }
    return fclose(out) != 0;
}
