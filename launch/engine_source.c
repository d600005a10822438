/* launch/engine_source.c: who has the files, who sends. */
#include "launch/engine_source.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/arena.h"
#include "base/log.h"
#include "launch/cache_secret.h"

enum {
    KEY_HEAD_MAX = 64 << 20, /* bytes of a file's beginning that its key covers */
    SECRET_WORDS = sizeof(model_secret_t) / sizeof(int32_t),
};

/* What rank 0 says of each of its files. */
typedef struct {
    uint64_t     bytes, head_bytes, time;
    model_hash_t key;
} fact_t;

/* What a rank answers. */
typedef struct {
    int32_t has;
    int32_t keeps; /* it has a --cache, and will use it */
    int32_t host;
    char    why[256]; /* it is not the same file */
} answer_t;

/* ---- the hint -------------------------------------------------------------------------------- */

base_status_t engine_source_hint(comm_world_t *world, const char *path, char *text, size_t bytes,
                                 bool *some_cannot, base_err_t *err)
{
    int32_t       mine = path != NULL && access(path, R_OK) == 0; /* readable */
    int32_t      *all  = NULL;
    const int     n    = comm_size(world);
    base_status_t st   = BASE_OK;
    text[0]            = '\0';
    *some_cannot       = false;
    if (n == 1) return BASE_OK;
    if (comm_rank(world) == 0)
        st = base_alloc((void **)&all, (size_t)n, sizeof(*all), "ranks", err);
    st = comm_agree(world, st, err);
    if (st == BASE_OK) st = comm_gather_records(world, &mine, sizeof(mine), all, err);
    for (int r = 1; st == BASE_OK && all != NULL && r < n; r++) {
        if (all[r] == 0)
            *some_cannot = true;
        else if (text[0] == '\0')
            (void)snprintf(text, bytes,
                           "; rank %d on %s can read its -m: rank 0 must be one that has the file, "
                           "so name that host first",
                           r, comm_host_name(world, r));
    }
    free(all);
    return st;
}

/* ---- facts ----------------------------------------------------------------------------------- */

static void lower(const model_tensor_t *t, fact_t *facts)
{
    if (t->type != MODEL_NONE && t->offset < facts[t->file].head_bytes)
        facts[t->file].head_bytes = t->offset;
}

/* Rank 0: sizes, and keys of all in front of the weights. */
static void fill_facts(const model_source_t *source, const model_desc_t *d, fact_t *facts,
                       uint32_t n)
{
    for (uint32_t i = 0; i < n; i++)
        facts[i] = (fact_t){.bytes = model_source_bytes(source, i), .head_bytes = KEY_HEAD_MAX};
    lower(&d->embed, facts);
    lower(&d->head, facts);
    lower(&d->out_norm, facts);
    for (uint32_t l = 0; l < d->n_layers; l++)
        for (int t = 0; t < MODEL_LAYER_TENSOR_COUNT; t++) lower(&d->layers[l].t[t], facts);
    for (uint32_t i = 0; i < n; i++) {
        facts[i].key  = model_file_key(source, i, facts[i].head_bytes);
        facts[i].time = model_source_time(source, i);
    }
}

static base_status_t share_facts(comm_world_t *world, const model_source_t *root,
                                 const model_desc_t *d, fact_t *facts, uint32_t n, base_err_t *err)
{
    if (comm_rank(world) == 0) fill_facts(root, d, facts, n);
    return comm_control_share(world, "sizes and keys of files", facts, n * sizeof(*facts), err);
}

/* ---- the own files --------------------------------------------------------------------------- */

static bool is_directory(const char *path)
{
    struct stat info;
    return stat(path, &info) == 0 && S_ISDIR(info.st_mode);
}

/* Where this rank would have file i: as rank 0 names it, in the directory of its own -m. */
static const char *own_path(const char *model_path, const part_assignment_t *part, uint32_t i,
                            char *buf, size_t bytes)
{
    const char *base  = strrchr(part->paths[i], '/');
    const char *slash = model_path == NULL ? NULL : strrchr(model_path, '/');
    int         n     = 0;
    base              = base == NULL ? part->paths[i] : base + 1;
    if (model_path == NULL) return part->paths[i];
    if (is_directory(model_path))
        n = snprintf(buf, bytes, "%s/%s", model_path, base);
    else if (part->n_paths == 1 || slash == NULL)
        n = snprintf(buf, bytes, "%s", part->n_paths == 1 ? model_path : base);
    else
        n = snprintf(buf, bytes, "%.*s/%s", (int)(slash - model_path), model_path, base);
    return n < 0 || (size_t)n >= bytes ? part->paths[i] : buf;
}

static base_status_t open_files(engine_source_t *s, const char *model_path,
                                const part_assignment_t *part, base_err_t *err)
{
    const uint32_t n     = part->n_paths;
    const char   **paths = NULL;
    char          *bufs  = NULL;
    base_status_t  st    = base_alloc((void **)&paths, n, sizeof(*paths), "paths", err);
    if (st == BASE_OK) st = base_alloc((void **)&bufs, n, LIMIT_PATH_BYTES, "paths", err);
    for (uint32_t i = 0; st == BASE_OK && i < n; i++)
        paths[i] =
            own_path(model_path, part, i, bufs + (size_t)i * LIMIT_PATH_BYTES, LIMIT_PATH_BYTES);
    if (st == BASE_OK) st = model_source_open(paths, n, &s->own, err);
    free(paths);
    free(bufs);
    return st;
}

/* Does this rank have the same files as rank 0? */
static answer_t look(engine_source_t *s, const char *model_path, const part_assignment_t *part,
                     const fact_t *facts)
{
    answer_t   a   = {.has = 1};
    base_err_t err = {0};
    if (open_files(s, model_path, part, &err) != BASE_OK) {
        a.has = 0;
        return a;
    }
    for (uint32_t i = 0; i < part->n_paths && a.has != 0; i++) {
        const uint64_t bytes = model_source_bytes(s->own, i);
        model_hash_t   key   = {0};
        if (bytes == facts[i].bytes) key = model_file_key(s->own, i, facts[i].head_bytes);
        if (bytes == facts[i].bytes && key.high == facts[i].key.high && key.low == facts[i].key.low)
            continue;
        a.has = 0;
        (void)snprintf(a.why, sizeof(a.why),
                       "%.150s is another file here (%llu bytes, rank 0's %llu)",
                       model_source_path(s->own, i), (unsigned long long)bytes,
                       (unsigned long long)facts[i].bytes);
    }
    if (a.has == 0) model_source_close(&s->own);
    return a;
}

/* ---- who sends to whom ----------------------------------------------------------------------- */

/* Rank 0: server[r] is the rank that r asks, -1 where r has the files. One on r's own host if there
 * is one; the askers are spread over those who have them. */
static void choose(const answer_t *a, int n, int32_t *server, uint32_t *n_without, int *without)
{
    int next = 0; /* of all that have the files */
    for (int r = 0; r < n; r++) {
        server[r] = -1;
        if (a[r].has != 0) continue;
        if ((*n_without)++ == 0) *without = r;
        for (int k = 0; k < n && server[r] < 0; k++)
            if (a[(r + k) % n].has != 0 && a[(r + k) % n].host == a[r].host)
                server[r] = (r + k) % n;
        while (server[r] < 0) {
            if (a[next % n].has != 0) server[r] = next % n;
            next++;
        }
    }
}

static void warn_others(const answer_t *a, int n)
{
    for (int r = 0; r < n; r++)
        if (a[r].has == 0 && a[r].why[0] != '\0')
            base_log(BASE_LOG_WARN, "rank %d: %.255s; it gets its weights from others", r,
                     a[r].why);
}

static const char list_of_servers[] = "the list of who serves weights";

/* server: of each rank, then the secret of caches, if any rank keeps one. */
static base_status_t share_servers(engine_source_t *s, comm_world_t *world, answer_t *all,
                                   int32_t *server, const answer_t *mine, base_err_t *err)
{
    const int     n      = comm_size(world);
    const size_t  bytes  = ((size_t)n + SECRET_WORDS) * sizeof(*server);
    bool          keep   = false;
    base_status_t secret = BASE_OK;
    base_status_t st     = comm_gather_records(world, mine, sizeof(*mine), all, err);
    if (st != BASE_OK) return st;
    if (comm_rank(world) == 0) {
        for (int r = 0; r < n; r++) all[r].why[sizeof(all[r].why) - 1] = '\0';
        for (int r = 0; r < n; r++) keep = keep || all[r].keeps != 0;
        warn_others(all, n);
        choose(all, n, server, &s->n_without, &s->without);
        if (keep) secret = cache_secret_load(&s->origin.secret, err);
        memcpy(server + n, &s->origin.secret, sizeof(s->origin.secret));
        st = comm_control_share(world, list_of_servers, server, bytes, err);
        return secret != BASE_OK ? secret : st; /* the others wait for the list */
    }
    st = comm_control_share(world, list_of_servers, server, bytes, err);
    for (int r = 0; st == BASE_OK && r < n; r++)
        if (server[r] < -1 || server[r] >= n || server[r] == r)
            st = base_fail(err, BASE_ERR_PEER, "rank 0 sent a list of servers that cannot be");
    memcpy(&s->origin.secret, server + n, sizeof(s->origin.secret));
    return st;
}

static base_status_t begin_serving(engine_source_t *s, comm_world_t *world, bool progress,
                                   base_err_t *err)
{
    const size_t  n  = (size_t)comm_size(world);
    base_status_t st = base_alloc((void **)&s->server.done, n, sizeof(uint64_t), "server", err);
    if (st == BASE_OK)
        st = base_alloc((void **)&s->server.total, n, sizeof(uint64_t), "server", err);
    if (st != BASE_OK) return st;
    s->server.source   = s->origin.source;
    s->server.progress = progress;
    s->server.n_ranks  = (uint32_t)n;
    st                 = comm_serve_begin(world, worker_server_answer, &s->server, err);
    s->serves          = st == BASE_OK;
    return st;
}

/* ---- open, close ----------------------------------------------------------------------------- */

static void set_origin(engine_source_t *s, comm_world_t *world, const char *cache_dir,
                       const part_assignment_t *part, const fact_t *facts, int server)
{
    model_hash_t keys[2] = {{0}};
    for (uint32_t i = 0; i < part->n_paths; i++) {
        s->bytes[i] = facts[i].bytes;
        keys[1]     = facts[i].key;
        keys[0]     = model_hash_join(keys, 2);
        /* A file that was edited is another one, wherever its samples lie. */
        keys[1] = (model_hash_t){facts[i].bytes, facts[i].time};
        keys[0] = model_hash_join(keys, 2);
    }
    s->origin.world     = world;
    s->origin.server    = server;
    s->origin.paths     = part->paths;
    s->origin.bytes     = s->bytes;
    s->origin.n_paths   = part->n_paths;
    s->origin.cache_dir = cache_dir;
    s->origin.model     = keys[0];
}

base_status_t engine_source_open(engine_source_t *s, comm_world_t *world, const char *model_path,
                                 const char *cache_dir, const model_source_t *root,
                                 const model_desc_t *root_desc, const part_assignment_t *part,
                                 bool progress, base_err_t *err)
{
    const size_t  n      = (size_t)comm_size(world);
    const int     rank   = comm_rank(world);
    fact_t       *facts  = NULL;
    answer_t     *all    = NULL;
    int32_t      *server = NULL;
    answer_t      mine   = {.has = 1};
    base_status_t st     = base_alloc((void **)&facts, part->n_paths, sizeof(*facts), "files", err);

    s->origin.source = root;
    if (n == 1) goto out;
    if (st == BASE_OK)
        st = base_alloc((void **)&s->bytes, part->n_paths, sizeof(*s->bytes), "files", err);
    if (st == BASE_OK) st = base_alloc((void **)&all, n, sizeof(*all), "ranks", err);
    if (st == BASE_OK)
        st = base_alloc((void **)&server, n + SECRET_WORDS, sizeof(*server), "ranks", err);
    st = comm_agree(world, st, err);
    if (st == BASE_OK) st = share_facts(world, root, root_desc, facts, part->n_paths, err);
    if (st != BASE_OK) goto out;
    if (root == NULL) mine = look(s, model_path, part, facts);
    mine.host  = comm_host_index(world);
    mine.keeps = mine.has == 0 && cache_dir != NULL;
    st         = share_servers(s, world, all, server, &mine, err);
    if (st != BASE_OK) goto out;
    if (root == NULL) s->origin.source = s->own;
    set_origin(s, world, cache_dir, part, facts, server[rank]);
    bool asked = false;
    for (size_t r = 0; r < n; r++) asked = asked || server[r] == rank;
    if (asked) st = begin_serving(s, world, progress, err);
out:
    free(facts);
    free(all);
    free(server);
    return st;
}

void engine_source_loaded(engine_source_t *s, comm_world_t *world)
{
    if (!s->serves) return;
    comm_serve_end(world);
    if (s->server.progress) base_progress_bytes("sending weights", 1, 1);
    s->serves = false;
}

void engine_source_close(engine_source_t *s)
{
    model_source_close(&s->own);
    free(s->bytes);
    free(s->server.done);
    free(s->server.total);
    memset(s, 0, sizeof(*s));
}
