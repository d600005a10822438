/* tests/worker/unit_cache.c: what --cache keeps is found again by the same model under the same
 * secret, and by nobody else: files of strangers, renamed, edited or put together anew are
 * refused. */
#include "worker/unit_cache.h"

#include <dirent.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/limits.h"
#include "base/log.h"

/* docs/FORMATS.md: a record of one unit is head, a tag, the unit. */
enum {
    ROWS   = 32,
    COLS   = 256,
    HEAD   = 112,
    TAG    = 8,
    UNIT   = 16 * COLS * 2,
    RECORD = HEAD + TAG + UNIT
};

static char root[] = "/tmp/trireme-units-XXXXXX";
static char folder[64];

static const model_secret_t ours = {{1, 2}}, theirs = {{1, 3}};
static const model_hash_t   one = {5, 6}, other = {5, 7};
static uint8_t              data[2][UNIT];

static model_window_t window(uint64_t tile)
{
    const model_tensor_t t = {.type   = MODEL_F16,
                              .offset = 4096,
                              .bytes  = ROWS * COLS * 2,
                              .n_rows = ROWS,
                              .n_cols = COLS};
    return model_window(&t, false, 16 * tile, 16, 0, COLS);
}

static worker_unit_cache_t *open_cache(const model_secret_t *secret, model_hash_t model, int rank)
{
    worker_unit_cache_t *c   = NULL;
    base_err_t           err = {0};
    assert_int_equal(worker_unit_cache_open(folder, model, secret, rank, &c, &err), BASE_OK);
    return c;
}

/* The one file of `rank` that is not `without`. */
static void file_of(int rank, const char *without, char *path, size_t bytes)
{
    char suffix[32];
    DIR *d = opendir(folder);
    assert_non_null(d);
    (void)snprintf(suffix, sizeof(suffix), "-%04d.units", rank);
    path[0] = '\0';
    for (const struct dirent *e = readdir(d); e != NULL; e = readdir(d))
        if (strstr(e->d_name, suffix) != NULL &&
            (without == NULL || strstr(without, e->d_name) == NULL))
            (void)snprintf(path, bytes, "%s/%.64s", folder, e->d_name);
    (void)closedir(d);
    assert_true(path[0] != '\0');
}

/* A new folder with both tiles, kept by rank 0. */
static void keep_both(char *path, size_t bytes)
{
    static int n;
    (void)snprintf(folder, sizeof(folder), "%s/%d", root, n++);
    worker_unit_cache_t *c = open_cache(&ours, one, 0);
    for (uint64_t t = 0; t < 2; t++) {
        const model_window_t w = window(t);
        assert_int_equal(model_window_bytes(&w), UNIT);
        worker_unit_cache_keep(c, &w, data[t]);
    }
    worker_unit_cache_close(&c);
    file_of(0, NULL, path, bytes);
}

static void read_file(const char *path, uint8_t *bytes)
{
    int fd = open(path, O_RDONLY);
    assert_true(fd >= 0 && read(fd, bytes, 2 * RECORD + 1) == 2 * RECORD);
    (void)close(fd);
}

static void write_file(const char *path, const uint8_t *bytes)
{
    int fd = open(path, O_WRONLY | O_CREAT, 0600);
    assert_true(fd >= 0 && write(fd, bytes, 2 * RECORD) == 2 * RECORD);
    (void)close(fd);
}

/* Is the tile there, and does it come out well? Then it is the right one. */
static bool gives(worker_unit_cache_t *c, uint64_t tile)
{
    const model_window_t w    = window(tile);
    const char          *path = NULL;
    bool                 good = false;
    uint8_t              out[UNIT];
    if (!worker_unit_cache_has(c, &w, tile, 0)) return false;
    worker_unit_cache_read(c, &w, out, &good, &path);
    assert_true(good == (path == NULL));
    if (good) assert_memory_equal(out, data[tile], UNIT);
    return good;
}

static bool any(const model_secret_t *secret, model_hash_t model, int rank)
{
    worker_unit_cache_t *c     = open_cache(secret, model, rank);
    const bool           found = gives(c, 0) || gives(c, 1);
    worker_unit_cache_close(&c);
    return found;
}

static void found_again(void **state)
{
    char path[LIMIT_PATH_BYTES];
    (void)state;
    keep_both(path, sizeof(path));
    for (int rank = 0; rank < 2; rank++) { /* others read it, too */
        worker_unit_cache_t *c = open_cache(&ours, one, rank);
        assert_true(gives(c, 0) && gives(c, 1));
        worker_unit_cache_close(&c);
    }
}

/* Under another secret, or of another model: not by the name, and not when renamed. */
static void of_a_stranger(void **state)
{
    static const struct {
        const model_secret_t *secret;
        const model_hash_t   *model;
    } readers[] = {{&theirs, &one}, {&ours, &other}};
    char    path[LIMIT_PATH_BYTES], wanted[LIMIT_PATH_BYTES];
    uint8_t bytes[2 * RECORD + 1];
    (void)state;
    for (size_t i = 0; i < 2; i++) {
        keep_both(path, sizeof(path));
        assert_false(any(readers[i].secret, *readers[i].model, 1));
        file_of(1, NULL, wanted, sizeof(wanted));
        read_file(path, bytes);
        write_file(wanted, bytes);
        assert_false(any(readers[i].secret, *readers[i].model, 0));
        assert_true(any(&ours, one, 0));
    }
}

/* Whatever byte is changed, head, tag or weight: not used. */
static void edited(void **state)
{
    char    path[LIMIT_PATH_BYTES];
    uint8_t bytes[2 * RECORD + 1];
    (void)state;
    for (size_t at = RECORD; at < 2 * RECORD; at += at < RECORD + HEAD + TAG + 32 ? 1 : 997) {
        keep_both(path, sizeof(path));
        read_file(path, bytes);
        bytes[at] ^= 1;
        write_file(path, bytes);
        worker_unit_cache_t *c = open_cache(&ours, one, 1);
        assert_true(gives(c, 0));
        assert_false(gives(c, 1));
        worker_unit_cache_close(&c);
    }
}

/* Sound units with their tags in each other's place, before the files are looked at and behind. */
static void swapped(void **state)
{
    char    path[LIMIT_PATH_BYTES];
    uint8_t bytes[2 * RECORD + 1], mixed[2 * RECORD];
    (void)state;
    for (int late = 0; late < 2; late++) {
        keep_both(path, sizeof(path));
        read_file(path, bytes);
        memcpy(mixed, bytes, sizeof(mixed));
        memcpy(mixed + HEAD, bytes + RECORD + HEAD, TAG + UNIT);
        memcpy(mixed + RECORD + HEAD, bytes + HEAD, TAG + UNIT);
        if (late == 0) write_file(path, mixed);
        worker_unit_cache_t *c = open_cache(&ours, one, 1);
        if (late == 1) write_file(path, mixed);
        assert_false(gives(c, 0) || gives(c, 1));
        worker_unit_cache_close(&c);
    }
}

/* Something else where its file would be: not used, left alone, and nothing is kept. */
static void no_file(void **state)
{
    char path[LIMIT_PATH_BYTES];
    (void)state;
    for (int kind = 0; kind < 3; kind++) {
        struct stat          info;
        const model_window_t w      = window(0);
        static const mode_t  want[] = {S_IFDIR, S_IFIFO, S_IFLNK};
        keep_both(path, sizeof(path));
        assert_int_equal(unlink(path), 0);
        assert_int_equal(kind == 0   ? mkdir(path, 0700)
                         : kind == 1 ? mkfifo(path, 0600)
                                     : symlink(root, path),
                         0);
        worker_unit_cache_t *c = open_cache(&ours, one, 0);
        worker_unit_cache_keep(c, &w, data[0]);
        assert_false(gives(c, 0));
        worker_unit_cache_close(&c);
        assert_int_equal(lstat(path, &info), 0);
        assert_int_equal(info.st_mode & S_IFMT, want[kind]);
    }
}

static int set_up(void **state)
{
    (void)state;
    base_log_setup(BASE_LOG_ERROR, false, -1); /* refusals are warnings */
    for (size_t i = 0; i < sizeof(data); i++) data[i / UNIT][i % UNIT] = (uint8_t)(i * 37 >> 3);
    return mkdtemp(root) == NULL;
}

static int tear_down(void **state)
{
    char command[128];
    (void)state;
    (void)snprintf(command, sizeof(command), "rm -rf %s", root);
    return system(command);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(found_again), cmocka_unit_test(of_a_stranger), cmocka_unit_test(edited),
        cmocka_unit_test(swapped),     cmocka_unit_test(no_file),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
