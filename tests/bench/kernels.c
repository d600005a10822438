/* tests/bench/kernels.c
 * Time every row of worker/kernels/kernel_list.inc: bytes of weights (or of the vectors touched)
 * per second, multiply-adds per second where that means something, and the ratio to ref/.
 *
 *   kernels [--filter TEXT] [--ms N] [--k N] [--tok N] [--mib N]
 *
 * --filter  only rows whose "slot.variant" contains TEXT
 * --ms      time per row (200)
 * --k       columns of the products (2560)
 * --tok     tokens of a gemm (64); of a dense product 1, unless given
 * --mib     weights to walk through (256): far more than the last cache
 *
 * The ratio needs ref in the same run: filter by slot for it. One thread. */
#include "worker/kernels/kernel_decl.h"
#include "worker/kernels/screen.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

enum { CHUNK_TILES = 16, DENSE_ROWS = 256, VECTOR_N = 6912, MAX_TOK = 1024 };

static struct {
    const char *filter;
    double      seconds;
    size_t      k, tok, bytes;
} opt = {NULL, 0.2, 2560, 0, (size_t)256 << 20};

/* What one call of a kernel under test costs and did. */
typedef struct {
    double bytes, macs;
} work_t;

static uint8_t *weights; /* opt.bytes */
static float   *xs, *ys; /* MAX_TOK rows of 16384 */
static int8_t  *qs;
static int32_t *qsums, *accs;
static size_t   at; /* walking position in weights */
enum { ROW = 32768 };

static double now_s(void)
{
    struct timespec t;

    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t); /* a busy machine then disturbs less */
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* The next `bytes` of the weights; wraps, so that consecutive calls never hit a cache. */
static const uint8_t *next_weights(size_t bytes)
{
    if (at + bytes > opt.bytes) at = 0;
    const uint8_t *w = weights + at;
    at += (bytes + 63) / 64 * 64;
    return w;
}

static work_t run_kern_tern_fn(const char *slot, kern_tern_fn *fn)
{
    const kern_format_t *f      = kern_format(strstr(slot, "_t3_") != NULL ? KERN_T3 : KERN_T2);
    const size_t         tok    = strncmp(slot, "gemv", 4) == 0 ? 1 : opt.tok ? opt.tok : 64;
    const size_t         bytes  = CHUNK_TILES * kern_tile_bytes(f, opt.k);
    const size_t         stride = kern_q_stride(opt.k);

    fn(accs, CHUNK_TILES * 16, next_weights(bytes), CHUNK_TILES, kern_granules(f, opt.k), qs,
       stride, qsums, tok);
    return (work_t){(double)bytes, (double)(CHUNK_TILES * 16 * opt.k * tok)};
}

/* The scales are counted: they come from memory too. */
static work_t run_kern_tern_block_fn(const char *slot, kern_tern_block_fn *fn)
{
    const kern_format_t *f        = kern_format(KERN_T2);
    const size_t         tok      = strncmp(slot, "gemv", 4) == 0 ? 1 : opt.tok ? opt.tok : 64;
    const size_t         granules = kern_granules(f, opt.k);
    const size_t         bytes    = CHUNK_TILES * kern_tile_bytes(f, opt.k);
    const size_t         s_bytes  = CHUNK_TILES * kern_blocks(granules) * 16 * sizeof(float);
    const uint8_t       *w        = next_weights(bytes);

    fn(ys, CHUNK_TILES * 16, w, (const float *)(const void *)next_weights(s_bytes), CHUNK_TILES,
       granules, qs, kern_q_stride(opt.k), qsums, tok);
    return (work_t){(double)(bytes + s_bytes), (double)(CHUNK_TILES * 16 * opt.k * tok)};
}

static work_t run_kern_dense_fn(const char *slot, kern_dense_fn *fn)
{
    static const struct {
        const char *slot;
        size_t      k, bytes;
    } kinds[] = {
        {"dense_f32", 1, 4},      {"dense_f16", 1, 2},      {"dense_bf16", 1, 2},
        {"dense_q8_0", 32, 34},   {"dense_q6_k", 256, 210}, {"dense_q4_0", 32, 18},
        {"dense_q4_1", 32, 20},   {"dense_q5_0", 32, 22},   {"dense_q5_1", 32, 24},
        {"dense_q2_k", 256, 84},  {"dense_q3_k", 256, 110}, {"dense_q4_k", 256, 144},
        {"dense_q5_k", 256, 176}, {"dense_tq1_0", 256, 54}, {"dense_tq2_0", 256, 66},
    };
    const size_t tok       = opt.tok ? opt.tok : 1;
    size_t       row_bytes = 0;

    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++) {
        if (strcmp(slot, kinds[i].slot) == 0) row_bytes = opt.k / kinds[i].k * kinds[i].bytes;
    }
    const size_t bytes = row_bytes * DENSE_ROWS;
    fn(ys, DENSE_ROWS, next_weights(bytes), row_bytes, DENSE_ROWS, opt.k, xs, opt.k, tok);
    return (work_t){(double)bytes, (double)(DENSE_ROWS * opt.k * tok)};
}

static work_t run_kern_screen_fn(const char *slot, kern_screen_fn *fn)
{
    const size_t    n     = kern_screen_blocks(opt.k);
    const size_t    bytes = CHUNK_TILES * kern_screen_tile_bytes(n);
    kern_screen_x_t x     = {qs, qs + n * KERN_SCREEN_K, qsums, xs, xs + ROW, 1, 1};

    (void)slot;
    fn(ys, ys + ROW, next_weights(bytes), CHUNK_TILES, n, &x);
    return (work_t){(double)bytes, (double)(CHUNK_TILES * 16 * opt.k)};
}

static work_t run_kern_sumsq_fn(const char *slot, kern_sumsq_fn *fn)
{
    fn(ys, xs, VECTOR_N, strstr(slot, "32") != NULL ? 128 : 32);
    return (work_t){4.0 * VECTOR_N, 0};
}

static work_t run_kern_sum_fn(const char *slot, kern_sum_fn *fn)
{
    (void)slot;
    ys[0] = fn(xs, VECTOR_N);
    return (work_t){4.0 * VECTOR_N, 0};
}

static work_t run_kern_absmax_fn(const char *slot, kern_absmax_fn *fn)
{
    (void)slot;
    ys[0] = fn(xs, xs + ROW, VECTOR_N);
    return (work_t){8.0 * VECTOR_N, 0};
}

static work_t run_kern_quant_fn(const char *slot, kern_quant_fn *fn)
{
    (void)slot;
    accs[0] = fn(qs, xs, xs + ROW, 50.0f, VECTOR_N, VECTOR_N + 48);
    return (work_t){9.0 * VECTOR_N, 0};
}

static work_t run_kern_norm_fn(const char *slot, kern_norm_fn *fn)
{
    (void)slot;
    fn(ys, xs, xs + ROW, 0.5f, VECTOR_N);
    return (work_t){12.0 * VECTOR_N, 0};
}

static work_t run_kern_scale_fn(const char *slot, kern_scale_fn *fn)
{
    (void)slot;
    memset(ys, 0, 4 * VECTOR_N);
    fn(ys, accs, 1e-6f, VECTOR_N);
    return (work_t){8.0 * VECTOR_N, 0};
}

static work_t run_kern_add_fn(const char *slot, kern_add_fn *fn)
{
    (void)slot;
    fn(ys, xs, VECTOR_N);
    return (work_t){12.0 * VECTOR_N, 0};
}

static work_t run_kern_mul_fn(const char *slot, kern_mul_fn *fn)
{
    (void)slot;
    fn(ys, 1.0f, VECTOR_N);
    return (work_t){8.0 * VECTOR_N, 0};
}

static work_t run_kern_glu_fn(const char *slot, kern_glu_fn *fn)
{
    (void)slot;
    fn(ys, xs, xs + ROW, VECTOR_N);
    return (work_t){12.0 * VECTOR_N, 0};
}

static work_t run_kern_rope_fn(const char *slot, kern_rope_fn *fn)
{
    (void)slot;
    for (size_t h = 0; h < 32; h++) fn(ys + 128 * h, xs, xs + ROW, 128);
    return (work_t){32 * 12.0 * 128, 0};
}

/* Query rows on half a page (keys or values) that lies in memory, not in a cache: 4 heads of one
 * token for halves, as decoding has them; 64 rows, as a prompt has, for floats. */
enum { ATTN_HD = 128, ATTN_FEW = 4, ATTN_MANY = 64 };

static const uint32_t *ends_whole(void)
{
    static uint32_t ends[ATTN_MANY];

    for (size_t r = 0; r < ATTN_MANY; r++) ends[r] = KERN_PAGE;
    return ends;
}

static work_t attn_work(bool half)
{
    const double n = half ? ATTN_FEW : ATTN_MANY;
    return (work_t){(half ? 2.0 : 4.0) * ATTN_HD * KERN_PAGE, n * ATTN_HD * KERN_PAGE};
}

static work_t run_kern_attn_scores_fn(const char *slot, kern_attn_scores_fn *fn)
{
    static float e[ATTN_MANY * KERN_PAGE], m[ATTN_MANY], z[ATTN_MANY], q[ATTN_MANY * ATTN_HD];
    const bool   half = strstr(slot, "f16") != NULL;
    const void  *k    = next_weights((size_t)attn_work(half).bytes);

    fn(e, m, z, q, half ? ATTN_FEW : ATTN_MANY, k, ends_whole(), ATTN_HD, 0.088f);
    return attn_work(half);
}

static work_t run_kern_attn_values_fn(const char *slot, kern_attn_values_fn *fn)
{
    static float e[ATTN_MANY * KERN_PAGE], o[ATTN_MANY * ATTN_HD];
    const bool   half = strstr(slot, "f16") != NULL;
    const void  *v    = next_weights((size_t)attn_work(half).bytes);

    fn(o, e, half ? ATTN_FEW : ATTN_MANY, v, ends_whole(), ATTN_HD);
    return attn_work(half);
}

static work_t run_kern_attn_merge_fn(const char *slot, kern_attn_merge_fn *fn)
{
    static float m[32], z[32], mp[32], zp[32];

    (void)slot;
    fn(m, z, ys, mp, zp, xs, 32, 64);
    return (work_t){32 * 12.0 * 64, 0};
}

static work_t run_kern_narrow_fn(const char *slot, kern_narrow_fn *fn)
{
    (void)slot;
    fn((uint16_t *)(void *)ys, xs, VECTOR_N);
    return (work_t){6.0 * VECTOR_N, 0};
}

static work_t run_kern_div_fn(const char *slot, kern_div_fn *fn)
{
    (void)slot;
    fn(ys, xs, 3.0f, VECTOR_N);
    return (work_t){8.0 * VECTOR_N, 0};
}

static work_t run_kern_exp_fn(const char *slot, kern_exp_fn *fn)
{
    (void)slot;
    fn(ys, xs, VECTOR_N);
    return (work_t){8.0 * VECTOR_N, 0};
}

/* One line per row of the list. `ref_bytes_s` keeps the slot's reference figure for the ratio. */
static void report(const char *slot, const char *variant, double seconds, work_t done,
                   double *ref_bytes_s)
{
    const double bytes_s = done.bytes / seconds;

    if (strcmp(variant, "ref") == 0) *ref_bytes_s = bytes_s;
    printf("%-20s %-11s %9.3f GB/s", slot, variant, bytes_s * 1e-9);
    if (done.macs > 0)
        printf(" %9.2f Gmac/s", done.macs / seconds * 1e-9);
    else
        printf(" %16s", "");
    if (*ref_bytes_s > 0) printf(" %8.1fx ref", bytes_s / *ref_bytes_s);
    printf("\n");
    fflush(stdout);
}

static bool wanted(const char *slot, const char *variant, uint32_t cpu_bits)
{
    char name[128];

    (void)snprintf(name, sizeof name, "%s.%s", slot, variant);
    if (opt.filter != NULL && strstr(name, opt.filter) == NULL) return false;
    if ((kern_cpu_features() & cpu_bits) == cpu_bits) return true;
    printf("%-20s %-11s skipped: cpu lacks %s\n", slot, variant, kern_cpu_name(cpu_bits));
    return false;
}

#define X(slot, type)                                                                              \
    static void bench_##slot(const char *variant, uint32_t cpu_bits, type *fn)                     \
    {                                                                                              \
        static double ref_bytes_s = 0;                                                             \
        if (!wanted(#slot, variant, cpu_bits)) return;                                             \
        at = 0;                                                                                    \
        run_##type(#slot, fn);                                                                     \
        const double start = now_s();                                                              \
        double       spent = 0;                                                                    \
        work_t       sum   = {0, 0};                                                               \
        while (spent < opt.seconds) {                                                              \
            for (int i = 0; i < 4; i++) {                                                          \
                const work_t one = run_##type(#slot, fn);                                          \
                sum.bytes += one.bytes;                                                            \
                sum.macs += one.macs;                                                              \
            }                                                                                      \
            spent = now_s() - start;                                                               \
        }                                                                                          \
        report(#slot, variant, spent, sum, &ref_bytes_s);                                          \
    }
KERN_SLOTS(X)
#undef X

/* Huge pages where the system lends them, as the engine's arenas ask for them. */
static void *take(size_t bytes)
{
    const size_t huge = (size_t)2 << 20, room = (bytes + huge - 1) / huge * huge;
    void        *p = aligned_alloc(huge, room);

    if (p == NULL) {
        fprintf(stderr, "kernels: cannot allocate %zu bytes\n", bytes);
        exit(1);
    }
    (void)madvise(p, room, MADV_HUGEPAGE);
    return p;
}

static void setup(void)
{
    uint64_t s = 88172645463325252u;

    weights = take(opt.bytes);
    for (size_t i = 0; i + 8 <= opt.bytes; i += 8) {
        s ^= s << 13, s ^= s >> 7, s ^= s << 17;
        /* Small positive halves and floats whatever the type: no NaN, no subnormals. */
        const uint64_t v = (s & UINT64_C(0x03ff03ff03ff03ff)) | UINT64_C(0x3800380038003800);
        memcpy(weights + i, &v, 8);
    }
    xs    = take(sizeof(float) * ROW * 8 + sizeof(float) * MAX_TOK * opt.k);
    ys    = take(sizeof(float) * (ROW + MAX_TOK * DENSE_ROWS));
    qs    = take(MAX_TOK * kern_q_stride(opt.k) + ROW);
    qsums = take(sizeof(int32_t) * MAX_TOK * (opt.k / KERN_BLOCK_K));
    accs  = take(sizeof(int32_t) * (ROW + MAX_TOK * CHUNK_TILES * 16));
    for (size_t i = 0; i < ROW * 8 + MAX_TOK * opt.k; i++) xs[i] = (float)(i % 97) * 0.02f - 1.0f;
    for (size_t i = 0; i < MAX_TOK * kern_q_stride(opt.k) + ROW; i++) qs[i] = (int8_t)(i * 37);
    memset(accs, 0, sizeof(int32_t) * ROW);
    memset(ys, 0, sizeof(float) * ROW);
    memset(qsums, 0, sizeof(int32_t) * MAX_TOK * (opt.k / KERN_BLOCK_K));
}

int main(int argc, char **argv)
{
    for (int i = 1; i < argc; i++) {
        const bool   more = i + 1 < argc;
        const size_t v    = more ? (size_t)strtoull(argv[i + 1], NULL, 10) : 0;

        if (more && strcmp(argv[i], "--filter") == 0)
            opt.filter = argv[++i];
        else if (v > 0 && strcmp(argv[i], "--ms") == 0)
            opt.seconds = (double)v * 1e-3, i++;
        else if (v > 0 && v <= 32768 && strcmp(argv[i], "--k") == 0)
            opt.k = (v + 255) / 256 * 256, i++;
        else if (v > 0 && v <= MAX_TOK && strcmp(argv[i], "--tok") == 0)
            opt.tok = v, i++;
        else if (v > 0 && strcmp(argv[i], "--mib") == 0)
            opt.bytes = v << 20, i++;
        else {
            fprintf(stderr,
                    "kernels: [--filter TEXT] [--ms N] [--k 1..32768] [--tok 1..%d] "
                    "[--mib 1..]\n",
                    (int)MAX_TOK);
            return 2;
        }
    }
    setup();
#define KERN(slot, variant, cpu_bits) bench_##slot(#variant, cpu_bits, kern_##slot##__##variant);
#include "worker/kernels/kernel_list.inc"
#undef KERN
    return 0;
}
