/* tests/worker/shard_cache.c: files of packed weights: what is written is read, what is damaged is
 * refused by its unit, and a file is whole or not there. */
#include "worker/shard_cache.h"

#include <dirent.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/limits.h"

enum { UNITS = 5, UNIT = 1000, BYTES = 4 * UNIT + 300 }; /* the last unit is short */

static char root[] = "/tmp/trireme-shard-XXXXXX";
static char folder[64], path[LIMIT_PATH_BYTES];

static part_shard_piece_t pieces[2];
static part_shard_head_t  head;
static uint8_t            data[BYTES];

static int files_in(const char *name)
{
    int  n   = 0;
    DIR *dir = opendir(name);
    if (dir == NULL) return 0;
    for (const struct dirent *e = readdir(dir); e != NULL; e = readdir(dir))
        n += e->d_name[0] != '.';
    (void)closedir(dir);
    return n;
}

static int set_up(void **state)
{
    (void)state;
    if (mkdtemp(root) == NULL) return -1;
    (void)snprintf(folder, sizeof(folder), "%s/new", root);
    pieces[0] = (part_shard_piece_t){.form = PART_SHARD_T2, .bytes = BYTES, .unit_bytes = UNIT};
    pieces[1] = (part_shard_piece_t){.form = PART_SHARD_FLOATS, .bytes = 40, .unit_bytes = 40};
    head = (part_shard_head_t){.model = {1, 2}, .slice = {3, 4}, .n_pieces = 2, .pieces = pieces};
    for (size_t i = 0; i < BYTES; i++) data[i] = (uint8_t)(i * 31 + i / 256);
    if (!worker_cache_path(folder, head.model, head.slice, path, sizeof(path))) return -1;
    return part_shard_lay_out(&head, NULL) == BASE_OK ? 0 : -1;
}

static int tear_down(void **state)
{
    char command[128];
    (void)state;
    (void)snprintf(command, sizeof(command), "rm -r %s", root);
    return system(command);
}

static void write_file(void)
{
    worker_cache_writer_t *w = NULL;
    base_err_t             err;
    const bool             there = access(path, F_OK) == 0;
    assert_int_equal(worker_cache_create(path, &head, &w, &err), BASE_OK);
    assert_int_equal(access(path, F_OK), there ? 0 : -1); /* the name comes last */
    assert_int_equal(worker_cache_write(w, 0, 3, 2, data + 3 * UNIT, &err), BASE_OK);
    assert_int_equal(worker_cache_write(w, 0, 0, 3, data, &err), BASE_OK);
    assert_int_equal(worker_cache_write(w, 1, 0, 1, data, &err), BASE_OK);
    assert_int_equal(worker_cache_commit(&w, &err), BASE_OK);
    assert_null(w);
    assert_int_equal(files_in(folder), 1);
}

static void flip(off_t at)
{
    uint8_t b;
    int     fd = open(path, O_RDWR);
    assert_true(fd >= 0);
    assert_int_equal(pread(fd, &b, 1, at), 1);
    b ^= 4;
    assert_int_equal(pwrite(fd, &b, 1, at), 1);
    (void)close(fd);
}

static void there_and_back(void **state)
{
    (void)state;
    worker_cache_t *c = NULL;
    uint8_t         out[BYTES];
    bool            absent = false;
    base_err_t      err;
    assert_int_equal(worker_cache_open(path, &c, &absent, &err), BASE_ERR_IO);
    assert_true(absent);
    write_file();
    write_file(); /* over the old one */
    assert_int_equal(worker_cache_open(path, &c, &absent, &err), BASE_OK);
    assert_int_equal(worker_cache_head(c)->n_pieces, 2);
    assert_int_equal(worker_cache_head(c)->slice.low, 4);
    assert_int_equal(worker_cache_read(c, 0, 0, UNITS, out, &err), BASE_OK);
    assert_memory_equal(out, data, BYTES);
    assert_int_equal(worker_cache_read(c, 0, 4, 1, out, &err), BASE_OK);
    assert_memory_equal(out, data + 4 * UNIT, 300);
    assert_int_equal(worker_cache_read(c, 1, 0, 1, out, &err), BASE_OK);
    assert_memory_equal(out, data, 40);
    worker_cache_close(&c);
}

/* A byte of one unit: that unit is refused, the others are not. */
static void damage(void **state)
{
    (void)state;
    worker_cache_t *c = NULL;
    uint8_t         out[BYTES];
    bool            absent = false;
    base_err_t      err;
    write_file();
    for (uint64_t at = 0; at < BYTES; at += 97) {
        flip((off_t)(head.pieces[0].offset + at));
        assert_int_equal(worker_cache_open(path, &c, &absent, &err), BASE_OK);
        for (uint64_t u = 0; u < UNITS; u++) {
            base_status_t want = u == at / UNIT ? BASE_ERR_INPUT : BASE_OK;
            assert_int_equal(worker_cache_read(c, 0, u, 1, out, &err), want);
        }
        assert_int_equal(worker_cache_read(c, 0, 0, UNITS, out, &err), BASE_ERR_INPUT);
        assert_non_null(strstr(err.text, path));
        worker_cache_close(&c);
        flip((off_t)(head.pieces[0].offset + at));
    }
    /* The head: every byte of it. */
    for (uint64_t at = 0; at < head.data_offset; at++) {
        flip((off_t)at);
        assert_int_equal(worker_cache_open(path, &c, &absent, &err), BASE_ERR_INPUT);
        assert_non_null(strstr(err.text, path));
        flip((off_t)at);
    }
}

static void cut(void **state)
{
    (void)state;
    worker_cache_t *c      = NULL;
    bool            absent = false;
    base_err_t      err;
    for (uint64_t n = 0; n < head.file_bytes; n += n < 256 ? 1 : 61) {
        write_file();
        assert_int_equal(truncate(path, (off_t)n), 0);
        assert_int_equal(worker_cache_open(path, &c, &absent, &err), BASE_ERR_INPUT);
        assert_false(absent);
    }
    /* Cut after it was opened. */
    write_file();
    uint8_t out[BYTES];
    assert_int_equal(worker_cache_open(path, &c, &absent, &err), BASE_OK);
    assert_int_equal(truncate(path, (off_t)head.data_offset + UNIT), 0);
    assert_int_equal(worker_cache_read(c, 0, 0, UNITS, out, &err), BASE_ERR_IO);
    worker_cache_close(&c);
}

static void other_things(void **state)
{
    (void)state;
    worker_cache_t *c      = NULL;
    bool            absent = false;
    base_err_t      err;
    (void)unlink(path);
    assert_int_equal(mkfifo(path, 0600), 0); /* must not be waited for */
    assert_int_equal(worker_cache_open(path, &c, &absent, &err), BASE_ERR_INPUT);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(mkdir(path, 0700), 0);
    assert_int_equal(worker_cache_open(path, &c, &absent, &err), BASE_ERR_INPUT);
    worker_cache_writer_t *w = NULL;
    assert_int_equal(worker_cache_create(path, &head, &w, &err), BASE_OK);
    assert_int_equal(worker_cache_write(w, 0, 0, UNITS, data, &err), BASE_OK);
    assert_int_equal(worker_cache_commit(&w, &err), BASE_ERR_IO); /* a folder has the name */
    assert_int_equal(files_in(folder), 1);
    assert_int_equal(rmdir(path), 0);
}

/* No room: as a full disk, an error of the call that asks for it. */
static void full(void **state)
{
    (void)state;
    worker_cache_writer_t *w     = NULL;
    base_err_t             err   = {0};
    struct rlimit          limit = {4096, RLIM_INFINITY};
    (void)unlink(path);
    (void)signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
    base_status_t st = worker_cache_create(path, &head, &w, &err);
    limit.rlim_cur   = RLIM_INFINITY;
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
    assert_int_equal(st, BASE_ERR_IO);
    assert_non_null(strstr(err.text, "no room for"));
    assert_int_equal(files_in(folder), 0);
    /* Given up: nothing stays either. */
    assert_int_equal(worker_cache_create(path, &head, &w, &err), BASE_OK);
    assert_int_equal(worker_cache_write(w, 0, 0, 2, data, &err), BASE_OK);
    worker_cache_abandon(&w);
    assert_int_equal(files_in(folder), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(there_and_back), cmocka_unit_test(damage), cmocka_unit_test(cut),
        cmocka_unit_test(other_things),   cmocka_unit_test(full),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
