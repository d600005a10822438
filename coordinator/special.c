/* coordinator/special.c: Aho-Corasick over the special tokens, and the queue of their places. */
#include "coordinator/special.h"

#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "base/limits.h"

enum { ROOT = 0 };
_Static_assert(LIMIT_SPECIAL_BYTES < 1 << 24, "a node and a byte are one key of 32 bits");
_Static_assert(LIMIT_TEXT_BYTES <= INT32_MAX, "a place is 32 bits of a queue entry");

/* A token. They lie by (length descending, id ascending): the order in which they take places.
 * Behind the last stands "none", of length 0. */
typedef struct {
    uint32_t node;
    uint32_t bytes;
    int32_t  id;
    uint32_t shorter; /* the next shorter token that ends like this one */
    uint32_t jump;    /* one further down that chain, so that log n steps reach any length */
    uint32_t depth;   /* of the chain from here */
} token_t;

typedef struct {
    uint32_t key;   /* node << 8 | byte */
    uint32_t child; /* ROOT: free */
} edge_t;

/* While the tree grows; then only fail and longest stay. */
typedef struct {
    uint32_t parent, depth;
    int32_t  id; /* of the token that ends here, -1: none */
    uint8_t  byte;
} node_t;

struct coord_special {
    token_t  *tokens; /* n_tokens, and "none" */
    uint32_t  n_tokens;
    edge_t   *edges;
    uint32_t  edge_mask;
    uint32_t  first[256]; /* edges of the root */
    uint32_t *fail;       /* by node: that of the longest proper suffix in the tree */
    uint32_t *longest;    /* by node: the longest token that ends there */
    uint32_t  n_nodes;
};

/* ---- the tree ------------------------------------------------------------------------------ */

static edge_t *edge_of(const coord_special_t *s, uint32_t node, uint8_t byte)
{
    uint32_t key = node << 8 | byte;
    uint32_t at  = (uint32_t)((key * 0x9E3779B97F4A7C15ULL) >> 32) & s->edge_mask;

    while (s->edges[at].child != ROOT && s->edges[at].key != key) at = (at + 1) & s->edge_mask;
    return &s->edges[at];
}

static uint32_t child_of(const coord_special_t *s, uint32_t node, uint8_t byte)
{
    return node == ROOT ? s->first[byte] : edge_of(s, node, byte)->child;
}

/* The longest suffix of node's text and `byte` that the tree has. */
static uint32_t step(const coord_special_t *s, uint32_t node, uint8_t byte)
{
    uint32_t child = child_of(s, node, byte);

    while (child == ROOT && node != ROOT) {
        node  = s->fail[node];
        child = child_of(s, node, byte);
    }
    return child;
}

static void insert(coord_special_t *s, node_t *nodes, const model_str_t *text, int32_t id)
{
    uint32_t node = ROOT;

    for (uint32_t i = 0; i < text->bytes; i++) {
        uint8_t  byte  = (uint8_t)text->text[i];
        uint32_t child = child_of(s, node, byte);

        if (child == ROOT) {
            child        = s->n_nodes++;
            nodes[child] = (node_t){.parent = node, .depth = i + 1, .id = -1, .byte = byte};
            if (node == ROOT)
                s->first[byte] = child;
            else
                *edge_of(s, node, byte) = (edge_t){.key = node << 8 | byte, .child = child};
        }
        node = child;
    }
    s->n_tokens += nodes[node].id < 0;
    nodes[node].id = id;
}

static int by_turn(const void *a, const void *b)
{
    const token_t *x = a, *y = b;

    if (x->bytes != y->bytes) return x->bytes > y->bytes ? -1 : 1;
    return x->id < y->id ? -1 : x->id > y->id;
}

/* Nodes by depth into order[] (n_nodes). */
static base_status_t sort_by_depth(const node_t *nodes, uint32_t n_nodes, uint32_t *order,
                                   base_err_t *err)
{
    void         *room = NULL;
    uint32_t     *at   = NULL;
    base_status_t st = base_alloc(&room, LIMIT_TOKEN_BYTES + 2, sizeof *at, "special tokens", err);

    if (st != BASE_OK) return st;
    at = room;
    for (uint32_t i = 0; i < n_nodes; i++) at[nodes[i].depth + 1]++;
    for (uint32_t d = 1; d < LIMIT_TOKEN_BYTES + 2; d++) at[d] += at[d - 1];
    for (uint32_t i = 0; i < n_nodes; i++) order[at[nodes[i].depth]++] = i;
    free(at);
    return BASE_OK;
}

/* The chains of shorter tokens. A jump goes as far down as two equal jumps below it, or one step:
 * any ancestor is then log n jumps away (Myers' skew-binary stack). */
static void link_tokens(coord_special_t *s)
{
    token_t *t = s->tokens;

    for (uint32_t i = s->n_tokens; i-- > 0;) {
        const token_t *below = &t[t[i].shorter], *far = &t[below->jump];

        base_assert(t[i].shorter > i && below->bytes < t[i].bytes);
        t[i].depth = below->depth + 1;
        t[i].jump =
            below->depth - far->depth == far->depth - t[far->jump].depth ? far->jump : t[i].shorter;
    }
}

static base_status_t link_all(coord_special_t *s, const node_t *nodes, base_err_t *err)
{
    uint32_t      n = 0, none = s->n_tokens;
    uint32_t     *order = NULL;
    void         *room  = NULL;
    base_status_t st    = base_alloc(&room, none + 1, sizeof *s->tokens, "special tokens", err);

    s->tokens = room;
    if (st == BASE_OK) st = base_alloc(&room, s->n_nodes, sizeof *order, "special tokens", err);
    if (st != BASE_OK) return st;
    order = room;
    st    = sort_by_depth(nodes, s->n_nodes, order, err);
    if (st != BASE_OK) goto out;
    for (uint32_t i = 0; i < s->n_nodes; i++)
        if (nodes[i].id >= 0)
            s->tokens[n++] =
                (token_t){.node = i, .bytes = nodes[i].depth, .id = nodes[i].id, .shorter = none};
    base_assert(n == none);
    qsort(s->tokens, n, sizeof *s->tokens, by_turn);
    s->tokens[none] = (token_t){.id = -1, .shorter = none, .jump = none};
    for (uint32_t i = 0; i < s->n_nodes; i++) s->longest[i] = none;
    for (uint32_t i = 0; i < n; i++) s->longest[s->tokens[i].node] = i;
    for (uint32_t i = 1; i < s->n_nodes; i++) { /* order[0] is the root */
        uint32_t at = order[i], parent = nodes[at].parent;
        uint32_t fail = parent == ROOT ? ROOT : step(s, s->fail[parent], nodes[at].byte);

        s->fail[at] = fail;
        if (s->longest[at] == none)
            s->longest[at] = s->longest[fail];
        else
            s->tokens[s->longest[at]].shorter = s->longest[fail];
    }
    link_tokens(s);
out:
    free(order);
    return st;
}

static bool counts(const model_vocab_t *vocab, const uint8_t *wanted, uint32_t i)
{
    return wanted[i] != 0 && vocab->tokens[i].bytes > 0 &&
           vocab->tokens[i].bytes <= LIMIT_TOKEN_BYTES;
}

base_status_t coord_special_create(const model_vocab_t *vocab, const uint8_t *wanted,
                                   coord_special_t **out, base_err_t *err)
{
    coord_special_t *s     = NULL;
    node_t          *nodes = NULL;
    void            *room  = NULL;
    size_t           bytes = 0, n_edges = 16;
    base_status_t    st = base_alloc(&room, 1, sizeof *s, "special tokens", err);

    if (st != BASE_OK) return st;
    s = room;
    for (uint32_t i = 0; i < vocab->n_tokens; i++)
        if (counts(vocab, wanted, i)) bytes += vocab->tokens[i].bytes;
    if (bytes > LIMIT_SPECIAL_BYTES) {
        st = base_fail(err, BASE_ERR_LIMIT, "special tokens of %zu bytes in all, limit %d", bytes,
                       LIMIT_SPECIAL_BYTES);
        goto out;
    }
    while (n_edges < 2 * bytes) n_edges *= 2;
    s->edge_mask = (uint32_t)n_edges - 1;
    st           = base_alloc(&room, n_edges, sizeof *s->edges, "special tokens", err);
    if (st != BASE_OK) goto out;
    s->edges = room;
    st       = base_alloc(&room, bytes + 1, sizeof *nodes, "special tokens", err);
    if (st != BASE_OK) goto out;
    nodes      = room;
    nodes[0]   = (node_t){.id = -1};
    s->n_nodes = 1;
    for (uint32_t i = 0; i < vocab->n_tokens; i++)
        if (counts(vocab, wanted, i)) insert(s, nodes, &vocab->tokens[i], (int32_t)i);
    st = base_alloc(&room, s->n_nodes, 2 * sizeof *s->fail, "special tokens", err);
    if (st != BASE_OK) goto out;
    s->fail    = room;
    s->longest = s->fail + s->n_nodes;
    st         = link_all(s, nodes, err);
    if (st != BASE_OK) goto out;
    *out = s;
    s    = NULL;
out:
    free(nodes);
    coord_special_destroy(&s);
    return st;
}

void coord_special_destroy(coord_special_t **special)
{
    coord_special_t *s = *special;

    if (s == NULL) return;
    free(s->tokens);
    free(s->edges);
    free(s->fail);
    free(s);
    *special = NULL;
}

/* ---- the places ---------------------------------------------------------------------------- */

/* A heap of (token << 32 | end): the least goes first, which is the longest token, leftmost. */
typedef struct {
    uint64_t *v;
    size_t    n, room;
} queue_t;

static base_status_t append(queue_t *q, uint64_t entry, base_err_t *err)
{
    if (q->n == q->room) {
        size_t room = q->room > 0 ? 2 * q->room : 64; /* at most LIMIT_TEXT_BYTES entries */
        void  *more = realloc(q->v, room * sizeof *q->v);

        if (more == NULL)
            return base_fail(err, BASE_ERR_MEMORY,
                             "special tokens: cannot allocate %zu x %zu bytes", room, sizeof *q->v);
        q->v    = more;
        q->room = room;
    }
    q->v[q->n++] = entry;
    return BASE_OK;
}

static void sink(queue_t *q, size_t i)
{
    uint64_t entry = q->v[i];

    for (size_t child = 2 * i + 1; child < q->n; child = 2 * i + 1) {
        if (child + 1 < q->n && q->v[child + 1] < q->v[child]) child++;
        if (entry <= q->v[child]) break;
        q->v[i] = q->v[child];
        i       = child;
    }
    q->v[i] = entry;
}

/* The longest token that ends at each byte where one ends. */
static base_status_t find_ends(const coord_special_t *s, const char *text, size_t bytes, queue_t *q,
                               base_err_t *err)
{
    base_status_t st   = BASE_OK;
    uint32_t      node = ROOT;

    for (size_t i = 0; i < bytes && st == BASE_OK; i++) {
        node = step(s, node, (uint8_t)text[i]);
        if (s->longest[node] < s->n_tokens)
            st = append(q, (uint64_t)s->longest[node] << 32 | (i + 1), err);
    }
    return st;
}

/* Hand out places until the queue is empty. left[i]: 0, or how far the place that holds byte i goes
 * on from there. Only longer or equal tokens came before, so what is taken covers the first or the
 * last byte of a place, or nothing of it. */
static size_t take_places(const coord_special_t *s, queue_t *q, uint32_t *left,
                          coord_match_t *matches)
{
    size_t n = 0;

    for (size_t i = q->n / 2; i-- > 0;) sink(q, i);
    while (q->n > 0) {
        uint32_t turn = (uint32_t)(q->v[0] >> 32);
        size_t   end = (uint32_t)q->v[0], at = end - s->tokens[turn].bytes;

        if (left[end - 1] == 0 && left[at] == 0) {
            matches[n++] = (coord_match_t){at, s->tokens[turn].bytes, s->tokens[turn].id};
            for (size_t i = at; i < end; i++) left[i] = (uint32_t)(end - i);
        } else if (left[end - 1] == 0) { /* the front is taken */
            size_t fits = end - at - left[at];

            while (s->tokens[turn].bytes > fits) {
                uint32_t jump = s->tokens[turn].jump;

                turn = s->tokens[jump].bytes > fits ? jump : s->tokens[turn].shorter;
            }
            if (turn < s->n_tokens) {
                q->v[0] = (uint64_t)turn << 32 | end;
                sink(q, 0);
                continue;
            }
        }
        q->v[0] = q->v[--q->n];
        if (q->n > 0) sink(q, 0);
    }
    return n;
}

static int by_place(const void *a, const void *b)
{
    const coord_match_t *x = a, *y = b;

    return x->at < y->at ? -1 : x->at > y->at;
}

base_status_t coord_special_find(const coord_special_t *special, const char *text, size_t bytes,
                                 coord_match_t **matches, size_t *n, base_err_t *err)
{
    queue_t        q     = {0};
    uint32_t      *left  = NULL;
    coord_match_t *found = NULL;
    void          *room  = NULL;
    base_status_t  st    = BASE_OK;

    base_assert(bytes <= LIMIT_TEXT_BYTES);
    *matches = NULL;
    *n       = 0;
    st       = find_ends(special, text, bytes, &q, err);
    if (st != BASE_OK || q.n == 0) goto out;
    st = base_alloc(&room, bytes, sizeof *left, "special tokens", err);
    if (st != BASE_OK) goto out;
    left = room;
    st   = base_alloc(&room, q.n, sizeof *found, "special tokens", err);
    if (st != BASE_OK) goto out;
    found = room;
    *n    = take_places(special, &q, left, found);
    qsort(found, *n, sizeof *found, by_place);
    *matches = found;
    found    = NULL;
out:
    free(found);
    free(left);
    free(q.v);
    return st;
}
