/* launch/calibration.c: figures of packed formats in a file of the user's cache. */
#include "launch/calibration.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/limits.h"
#include "build_info.h"
#include "launch/bench_report.h"
#include "launch/cache_secret.h"
#include "model/model.h"
#include "worker/worker.h"

static const double RATE_MAX = 1e17; /* no machine; a wild number would */

void calibration_key(int cores, int ranks, int threads, const char *cpu, char *key,
                     size_t key_bytes)
{
    char model[128];

    bench_report_cpu_info(model, sizeof(model));
    for (char *c = model; *c != '\0'; c++)
        if (!isprint((unsigned char)*c)) *c = '?';
    (void)snprintf(key, key_bytes,
                   "trireme calibration 1\ncpu %s\ncores %d\nranks %d\nthreads %d\nvariant %s\n"
                   "kernels %016" PRIx64 "\nprogram %s %s\n",
                   model, cores, ranks, threads, cpu != NULL ? cpu : worker_cpu_best(),
                   worker_kernels_version(), TRIREME_VERSION, TRIREME_BUILD_COMMIT);
}

/* The last line: a hash of all lines before. */
static int print_sum(char *out, size_t out_bytes, const char *text, size_t n)
{
    return snprintf(out, out_bytes, "sum %016" PRIx64 "\n", model_bytes_hash64(text, n));
}

size_t calibration_format(const char *key, const worker_pack_rate_t *rates, char *out,
                          size_t out_bytes)
{
    size_t n = (size_t)snprintf(out, out_bytes, "%st2 %.6e %.6e\nt3 %.6e %.6e\n", key,
                                rates[WORKER_PACK_T2].gemv, rates[WORKER_PACK_T2].gemm,
                                rates[WORKER_PACK_T3].gemv, rates[WORKER_PACK_T3].gemm);

    base_assert(n + 32 < out_bytes);
    return n + (size_t)print_sum(out + n, out_bytes - n, out, n);
}

bool calibration_parse(const char *key, const char *bytes, size_t n, worker_pack_rate_t *rates)
{
    const size_t       key_n = strlen(key);
    char               text[CALIBRATION_FILE_BYTES];
    char               sum[32];
    worker_pack_rate_t r[WORKER_PACKS];
    int                used = 0;

    if (n >= sizeof(text) || n < key_n || memcmp(bytes, key, key_n) != 0) return false;
    memcpy(text, bytes, n);
    text[n] = '\0';
    if (strlen(text) != n ||
        sscanf(text + key_n, "t2 %lf %lf t3 %lf %lf%n", &r[WORKER_PACK_T2].gemv,
               &r[WORKER_PACK_T2].gemm, &r[WORKER_PACK_T3].gemv, &r[WORKER_PACK_T3].gemm,
               &used) != 4 ||
        text[key_n + (size_t)used] != '\n')
        return false;
    const size_t summed = key_n + (size_t)used + 1;
    (void)print_sum(sum, sizeof(sum), text, summed);
    if (strcmp(text + summed, sum) != 0) return false;
    for (int i = 0; i < WORKER_PACKS; i++)
        if (!(r[i].gemv > 0 && r[i].gemv < RATE_MAX && r[i].gemm > 0 && r[i].gemm < RATE_MAX))
            return false;
    memcpy(rates, r, sizeof(r));
    return true;
}

/* --- the file --- */

/* The folder that holds ours, which need not be there; false: no place for it, or none wanted. */
static bool cache_root(char *root, size_t root_bytes)
{
    const char *off = getenv("TRIREME_CALIBRATION");

    if (off != NULL && (strcmp(off, "off") == 0 || strcmp(off, "0") == 0)) return false;
    return cache_secret_root(root, root_bytes);
}

static void file_name(const char *root, const char *key, char *path, size_t path_bytes)
{
    int n = snprintf(path, path_bytes, "%s/trireme/calibration-%016" PRIx64, root,
                     model_bytes_hash64(key, strlen(key)));
    base_assert(n > 0 && (size_t)n < path_bytes);
}

bool calibration_load(const char *key, worker_pack_rate_t *rates)
{
    char   root[LIMIT_PATH_BYTES];
    char   path[LIMIT_PATH_BYTES];
    char   bytes[CALIBRATION_FILE_BYTES];
    size_t n = 0;

    if (!cache_root(root, sizeof(root))) return false;
    file_name(root, key, path, sizeof(path));
    /* O_NONBLOCK: a named pipe must not hold the start up. */
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0) return false;
    while (n < sizeof(bytes)) {
        ssize_t got = read(fd, bytes + n, sizeof(bytes) - n);
        if (got < 0 && errno == EINTR) continue;
        if (got <= 0) break;
        n += (size_t)got;
    }
    (void)close(fd);
    return calibration_parse(key, bytes, n, rates);
}

static bool write_file(const char *path, const char *bytes, size_t n)
{
    char part[LIMIT_PATH_BYTES + 32];

    (void)snprintf(part, sizeof(part), "%s.%ld.part", path, (long)getpid());
    (void)unlink(part); /* of a process long dead with our number */
    int fd = open(part, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    if (fd < 0) return false;
    bool good = write(fd, bytes, n) == (ssize_t)n;
    good      = close(fd) == 0 && good && rename(part, path) == 0;
    if (!good) (void)unlink(part);
    return good;
}

bool calibration_save(const char *key, const worker_pack_rate_t *rates)
{
    char root[LIMIT_PATH_BYTES];
    char path[LIMIT_PATH_BYTES];
    char bytes[CALIBRATION_FILE_BYTES];

    if (!cache_root(root, sizeof(root))) return false;
    (void)mkdir(root, 0700);
    file_name(root, key, path, sizeof(path));
    char *slash = strrchr(path, '/');
    *slash      = '\0';
    (void)mkdir(path, 0700);
    *slash = '/';
    return write_file(path, bytes, calibration_format(key, rates, bytes, sizeof(bytes)));
}
