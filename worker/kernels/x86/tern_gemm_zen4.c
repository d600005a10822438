/* worker/kernels/x86/tern_gemm_zen4.c
 * Ternary products for many tokens by table look-up. Three ternary weights are one of 27, and for
 * three activations of a token a register holds all 27 sums as int16. VPERMW gives a sum of three
 * for each of 32 rows, VPADDW adds it: 96 products in two instructions. Zen 4 does such a pair a
 * cycle if look-ups and additions come eight by eight, and one VPDPBUSD a cycle (64 products).
 *
 * A chunk is some 180 columns. Its tables are built for all tokens; then each panel of 8 tiles is
 * unpacked to indices in L1, and for each four tokens the sums of the panel stay in registers while
 * indices (L1) and tables (a stream from L2) pass once. What remains is done with VPDPBUSD. */
#include "worker/kernels/kernel_decl.h"
#include "worker/kernels/many.h"
#include "worker/kernels/x86/tern_avx512.h"

#include <stdalign.h>

enum {
    GRANULES    = 3, /* of a block */
    T2_TRIPLES  = GRANULES * KERN_T2_K / 3,
    T3_TRIPLES  = GRANULES * KERN_T3_K / 3,
    T2_BLOCKS   = 4, /* of a chunk */
    T3_BLOCKS   = 3,
    MOST        = T2_BLOCKS * T2_TRIPLES, /* triples of a chunk */
    PANEL       = 8,                      /* tiles of a panel */
    PAIRS       = PANEL / 2,              /* 32 rows each: even lanes a tile, odd lanes the next */
    GROUP       = 4,                      /* tokens whose sums are in registers */
    MOST_TOKENS = 48,                     /* whose tables exist at once */
    LEAST       = 16,                     /* tokens for which it pays */
    AHEAD       = 2048,                   /* bytes of tables */
};
_Static_assert(KERN_MANY_TILES % PANEL == 0, "tables serve whole panels");
_Static_assert(T3_BLOCKS *T3_TRIPLES <= MOST, "a panel holds a chunk");
_Static_assert(MOST * 3 * 128 <= INT16_MAX, "sums of a chunk fit 16 bits");

typedef int16_t v32s_t __attribute__((vector_size(64)));
typedef int16_t lanes_t[32];

typedef struct {
    alignas(64) lanes_t index[MOST][PAIRS];
} panel_t;

typedef struct {
    alignas(64) lanes_t table[MOST_TOKENS / GROUP][MOST][GROUP];
} tables_t;

/* What is the same for all weights and tokens. */
typedef struct {
    alignas(64) uint8_t place[64];    /* of the sum in a table, by three codes of 2 bits */
    alignas(64) uint8_t order[2][64]; /* of the activations of a block: thrice 4 bytes, 1 unused */
    alignas(64) uint8_t codes[128];   /* t3: the last four digits of a byte as those of t2 */
    alignas(64) int8_t trits[2][64];  /* of the sums in the halves of a table */
    alignas(64) int32_t bias[2][16];  /* as the activations are made unsigned */
} plan_t;

/* How a format is cut. */
typedef struct {
    size_t k_granule, triples, blocks;
} cut_t;

static const cut_t T2 = {KERN_T2_K, T2_TRIPLES, T2_BLOCKS};
static const cut_t T3 = {KERN_T3_K, T3_TRIPLES, T3_BLOCKS};

/* Where triple i of a block takes its activation n from: three codes of a byte of a granule; the
 * last of each byte of three granules; the first digits of t3 of three granules. */
static size_t column(const cut_t *cut, size_t i, size_t n)
{
    const size_t four = cut->k_granule - KERN_T2_K; /* columns before those that are as in t2 */

    if (i < 12) return i / 4 * cut->k_granule + four + 4 * n + i % 4;
    return n * cut->k_granule + i % 4 + (i < 16 ? four + 12 : 0);
}

static void make_plan(plan_t *p, const cut_t *cut)
{
    memset(p, 0, sizeof *p);
    for (int n = 0; n < 27; n++) {
        const int half = n / 4 % 2, at = n / 8 * 4 + n % 4; /* where VPACKSSDW takes it from */
        const int code[3] = {n % 3, n / 3 % 3, n / 9};

        p->place[code[0] | code[1] << 2 | code[2] << 4] = (uint8_t)n;
        for (int i = 0; i < 3; i++) {
            p->trits[half][4 * at + i] = (int8_t)(code[i] - 1);
            p->bias[half][at] -= 128 * (code[i] - 1);
        }
    }
    for (size_t i = 0; i < cut->triples; i++) {
        for (size_t n = 0; n < 3; n++) {
            p->order[i / 16][4 * (i % 16) + n] = (uint8_t)column(cut, i, n);
        }
    }
    for (unsigned v = 0; v < KERN_T3_UNIT_0; v++) {
        const unsigned r1 = v % KERN_T3_UNIT_1, r2 = r1 % KERN_T3_UNIT_2;

        p->codes[v] =
            (uint8_t)(v / KERN_T3_UNIT_1 | r1 / KERN_T3_UNIT_2 << 2 | r2 / 3 << 4 | r2 % 3 << 6);
    }
}

/* The tables of a block for one token; n of its columns exist. */
INLINE void make_tables(lanes_t (*table)[GROUP], const plan_t *p, const cut_t *cut, const int8_t *q,
                        size_t n)
{
    const __mmask64 mask   = n < 64 ? (1ull << n) - 1 : ~0ull;
    const __m512i   high   = _mm512_set1_epi8(-128);
    const __m512i   v      = _mm512_xor_si512(_mm512_maskz_loadu_epi8(mask, q), high);
    const __m512i   trits0 = _mm512_load_si512(p->trits[0]);
    const __m512i   trits1 = _mm512_load_si512(p->trits[1]);
    const __m512i   bias0 = _mm512_load_si512(p->bias[0]), bias1 = _mm512_load_si512(p->bias[1]);
    alignas(64) int32_t three[2][16];

    for (size_t i = 0; i < 2; i++) {
        const __m512i order = _mm512_load_si512(p->order[i]);

        _mm512_store_si512(three[i], _mm512_permutexvar_epi8(order, v));
    }
    /* Broadcasts from memory take no port that computes; GCC would shuffle registers. */
    __asm__ volatile("" ::: "memory");
    for (size_t i = 0; i < cut->triples; i++) {
        const __m512i x = _mm512_set1_epi32(three[i / 16][i % 16]);

        _mm512_store_si512(table[i], _mm512_packs_epi32(_mm512_dpbusd_epi32(bias0, x, trits0),
                                                        _mm512_dpbusd_epi32(bias1, x, trits1)));
    }
}

/* The two indices that three codes in either byte of 16 bits make. */
INLINE void put_two(lanes_t (*out)[PAIRS], __m512i codes, __m512i place)
{
    const __m512i v = _mm512_permutexvar_epi8(codes, place);

    _mm512_store_si512(out[0], v);
    _mm512_store_si512(out[1], _mm512_srli_epi16(v, 8));
}

/* What is left of three granules: the last code of each byte. */
INLINE __m512i last_codes(__m512i a, __m512i b, __m512i c)
{
    const __m512i x = _mm512_srli_epi16(a, 6), y = _mm512_srli_epi16(b, 4);
    const __m512i z  = _mm512_srli_epi16(c, 2);
    const __m512i xy = _mm512_ternarylogic_epi32(_mm512_set1_epi8(0x03), x, y, 0xca);

    return _mm512_ternarylogic_epi32(_mm512_set1_epi8(0x0f), xy, z, 0xca);
}

/* Even lanes of a, odd lanes of b: their low halves of 32 bits, their high halves. */
INLINE void lace(__m512i a, __m512i b, __m512i *low, __m512i *high)
{
    const __mmask32 odd = 0xaaaaaaaa;

    *low  = _mm512_mask_blend_epi16(odd, a, _mm512_slli_epi32(b, 16));
    *high = _mm512_mask_blend_epi16(odd, _mm512_srli_epi32(a, 16), b);
}

/* Granule g of n of a block as t2: four codes a byte. first: what t3 holds besides, or 0. */
INLINE __m512i granule(const plan_t *p, const cut_t *cut, const uint8_t *w, size_t g, size_t n,
                       __m512i *first)
{
    const __m512i v = _mm512_maskz_load_epi32(g < n ? 0xffff : 0, w + 64 * g);

    if (cut->k_granule == KERN_T2_K) return v;
    const __m512i rest = t3_mod(v, KERN_T3_UNIT_0); /* 85 is 1 modulo 4 */

    *first = _mm512_and_si512(_mm512_sub_epi8(v, rest), _mm512_set1_epi8(3));
    return _mm512_permutex2var_epi8(_mm512_load_si512(p->codes), rest,
                                    _mm512_load_si512(p->codes + 64));
}

/* The indices of a block of two tiles; n of its granules exist. */
INLINE void unpack(lanes_t (*out)[PAIRS], const plan_t *p, const cut_t *cut, const uint8_t *w,
                   size_t tile_bytes, size_t n)
{
    const __m512i place = _mm512_load_si512(p->place);
    __m512i       x[GRANULES], y[GRANULES], a = place, b = place, first[2] = {{0}, {0}};

    for (size_t g = 0; g < GRANULES; g++) {
        const __m128i by = _mm_cvtsi32_si128((int)(2 * g));
        __m512i       d0 = place, d1 = place;

        a = granule(p, cut, w, g, n, &d0);
        b = granule(p, cut, w + tile_bytes, g, n, &d1);
        lace(a, b, &x[g], &y[g]);
        put_two(out + 4 * g, x[g], place);
        put_two(out + 4 * g + 2, y[g], place);
        /* They are below 4, so shifts of 16 bits stay in their bytes. */
        first[0] = _mm512_or_si512(first[0], _mm512_sll_epi16(d0, by));
        first[1] = _mm512_or_si512(first[1], _mm512_sll_epi16(d1, by));
    }
    put_two(out + 12, last_codes(x[0], x[1], x[2]), place);
    put_two(out + 14, last_codes(y[0], y[1], y[2]), place);
    if (cut->k_granule == KERN_T2_K) return;
    lace(first[0], first[1], &a, &b);
    put_two(out + 16, a, place);
    put_two(out + 18, b, place);
}

INLINE v32s_t look_up(__m512i table, __m512i index)
{
    return (v32s_t)_mm512_permutexvar_epi16(index, table);
}

INLINE __m512i load_lanes(const int16_t *lanes)
{
    __m512i v = _mm512_load_si512(lanes);

    __asm__("" : "+v"(v));
    return v;
}

#define EACH_PAIR(M, t) M(t, 0) M(t, 1) M(t, 2) M(t, 3)
#define EACH_SUM(M)     EACH_PAIR(M, 0) EACH_PAIR(M, 1) EACH_PAIR(M, 2) EACH_PAIR(M, 3)
#define SUM(t, p)       v32s_t s##t##p = {0};
#define LOOK(t, p)      v32s_t v##t##p = look_up(tab##t, x##p);
#define ADD(t, p)       s##t##p += v##t##p;
/* Nothing moves past this: look-ups eight by eight, then additions. One by one they would take each
 * other's ports and a quarter more time (measured). */
#define KEEP(v, a, b)                                                                              \
    __asm__ volatile(""                                                                            \
                     : "+v"(v##0##a), "+v"(v##1##a), "+v"(v##2##a), "+v"(v##3##a), "+v"(v##0##b),  \
                       "+v"(v##1##b), "+v"(v##2##b), "+v"(v##3##b))

/* It would wrap calls without semicolons anew each time. */
/* clang-format off */
#define TWO_PAIRS(a, b)                                                                            \
    do {                                                                                           \
        const __m512i x##a = load_lanes(index[i][a]), x##b = load_lanes(index[i][b]);              \
        LOOK(0, a) LOOK(1, a) LOOK(2, a) LOOK(3, a) LOOK(0, b) LOOK(1, b) LOOK(2, b) LOOK(3, b)    \
        KEEP(v, a, b);                                                                             \
        ADD(0, a) ADD(1, a) ADD(2, a) ADD(3, a) ADD(0, b) ADD(1, b) ADD(2, b) ADD(3, b)            \
        KEEP(s, a, b);                                                                             \
    } while (0);
/* clang-format on */

/* Even lanes are one tile, odd lanes the other: products with (1, 0) and (0, 1) widen them. */
#define STORE(t, p)                                                                                \
    do {                                                                                           \
        int32_t *const to = acc + (t)*acc_stride + 32 * (p);                                       \
        store_sum(to, (v16i_t)_mm512_dpwssd_epi32(first ? zero : (__m512i)load_sum(to),            \
                                                  (__m512i)s##t##p, even));                        \
        store_sum(to + 16, (v16i_t)_mm512_dpwssd_epi32(first ? zero : (__m512i)load_sum(to + 16),  \
                                                       (__m512i)s##t##p, odd));                    \
    } while (0);

/* acc (+)= the products of n triples of a panel with four tokens. */
static __attribute__((noinline)) void four(int32_t *acc, size_t acc_stride,
                                           const lanes_t (*index)[PAIRS],
                                           const lanes_t (*table)[GROUP], size_t n, bool first)
{
    const __m512i even = _mm512_set1_epi32(1), odd = _mm512_set1_epi32(1 << 16);
    const __m512i zero = _mm512_setzero_si512();
    EACH_SUM(SUM)

    for (size_t i = 0; i < n; i++) {
        __builtin_prefetch(acc + i % GROUP * acc_stride + i / GROUP % PANEL * KERN_TILE_ROWS, 1);
        for (int j = 0; j < GROUP; j++) __builtin_prefetch((const char *)table[i][j] + AHEAD);
        const __m512i tab0 = load_lanes(table[i][0]), tab1 = load_lanes(table[i][1]);
        const __m512i tab2 = load_lanes(table[i][2]), tab3 = load_lanes(table[i][3]);

        TWO_PAIRS(0, 1)
        TWO_PAIRS(2, 3)
    }
    EACH_SUM(STORE)
}

/* The tables of a chunk of n granules for n_tok tokens, a multiple of four. */
INLINE void make_chunk(tables_t *out, const plan_t *p, const cut_t *cut, const int8_t *q,
                       size_t q_stride, size_t n, size_t n_tok)
{
    for (size_t t = 0; t < n_tok; t++) {
        lanes_t(*to)[GROUP] = (lanes_t(*)[GROUP])out->table[t / GROUP][0][t % GROUP];

        for (size_t b = 0; b * GRANULES < n; b++) {
            make_tables(to + b * cut->triples, p, cut,
                        q + t * q_stride + b * GRANULES * cut->k_granule,
                        cut->k_granule * (n - b * GRANULES));
        }
    }
}

/* The indices of a panel at w, n granules. */
INLINE void make_panel(panel_t *out, const plan_t *p, const cut_t *cut, const uint8_t *w,
                       size_t tile_bytes, size_t n)
{
    for (size_t i = 0; i < PAIRS; i++) {
        for (size_t b = 0; b * GRANULES < n; b++) {
            unpack((lanes_t(*)[PAIRS])out->index[b * cut->triples][i], p, cut,
                   w + 2 * i * tile_bytes + 64 * b * GRANULES, tile_bytes, n - b * GRANULES);
        }
    }
}

/* All panels, n_tok a multiple of four and at most MOST_TOKENS. */
INLINE void panels(int32_t *acc, size_t acc_stride, const uint8_t *w, size_t n_tiles,
                   size_t k_granules, const int8_t *q, size_t q_stride, size_t n_tok,
                   const cut_t *cut)
{
    const size_t tile_bytes = 64 * k_granules, chunk = cut->blocks * GRANULES;
    plan_t       plan;
    panel_t      panel;
    tables_t     tables;

    make_plan(&plan, cut);
    for (size_t g = 0; g < k_granules; g += chunk) {
        const size_t n         = k_granules - g < chunk ? k_granules - g : chunk;
        const size_t n_triples = (n + GRANULES - 1) / GRANULES * cut->triples;

        make_chunk(&tables, &plan, cut, q + g * cut->k_granule, q_stride, n, n_tok);
        for (size_t tile = 0; tile < n_tiles; tile += PANEL) {
            const uint8_t *next = w + (tile + PANEL) * tile_bytes + 64 * g;

            make_panel(&panel, &plan, cut, w + tile * tile_bytes + 64 * g, tile_bytes, n);
            for (size_t t = 0, i = 0; t < n_tok; t += GROUP) {
                for (const size_t end = PANEL * (t + GROUP) / n_tok; i < end; i++) {
                    for (size_t b = 0; b < n; b++) {
                        __builtin_prefetch(next + i * tile_bytes + 64 * b);
                    }
                }
                four(acc + t * acc_stride + tile * KERN_TILE_ROWS, acc_stride,
                     (const lanes_t(*)[PAIRS])panel.index,
                     (const lanes_t(*)[GROUP])tables.table[t / GROUP], n_triples, g == 0);
            }
        }
    }
}

/* What is no whole panel or no four tokens goes to `rest`. */
INLINE void product(int32_t *acc, size_t acc_stride, const uint8_t *w, size_t n_tiles,
                    size_t k_granules, const int8_t *q, size_t q_stride, const int32_t *qsum,
                    size_t n_tok, const cut_t *cut, kern_tern_fn *rest)
{
    const size_t tiles = n_tiles / PANEL * PANEL;

    if (n_tok < LEAST || n_tiles < KERN_MANY_TILES || k_granules == 0) {
        rest(acc, acc_stride, w, n_tiles, k_granules, q, q_stride, qsum, n_tok);
        return;
    }
    while (n_tok > 0) {
        const size_t n = n_tok < MOST_TOKENS ? n_tok : MOST_TOKENS, whole = n / GROUP * GROUP;

        if (whole > 0) panels(acc, acc_stride, w, tiles, k_granules, q, q_stride, whole, cut);
        if (whole < n) {
            rest(acc + whole * acc_stride, acc_stride, w, tiles, k_granules, q + whole * q_stride,
                 q_stride, qsum + whole, n - whole);
        }
        if (tiles < n_tiles) {
            rest(acc + tiles * KERN_TILE_ROWS, acc_stride, w + 64 * k_granules * tiles,
                 n_tiles - tiles, k_granules, q, q_stride, qsum, n);
        }
        acc += n * acc_stride;
        q += n * q_stride;
        qsum += n;
        n_tok -= n;
    }
}

void kern_gemm_t2_i8__zen4(int32_t *acc, size_t acc_stride, const uint8_t *w, size_t n_tiles,
                           size_t k_granules, const int8_t *q, size_t q_stride, const int32_t *qsum,
                           size_t n_tok)
{
    product(acc, acc_stride, w, n_tiles, k_granules, q, q_stride, qsum, n_tok, &T2,
            kern_gemm_t2_i8__avx512vnni);
}

void kern_gemm_t3_i8__zen4(int32_t *acc, size_t acc_stride, const uint8_t *w, size_t n_tiles,
                           size_t k_granules, const int8_t *q, size_t q_stride, const int32_t *qsum,
                           size_t n_tok)
{
    product(acc, acc_stride, w, n_tiles, k_granules, q, q_stride, qsum, n_tok, &T3,
            kern_gemm_t3_i8__avx512vnni);
}
