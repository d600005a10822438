/* launch/cache_secret.c: a file of 16 random bytes, made once, whoever comes first. */
#include "launch/cache_secret.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/limits.h"
#include "base/log.h"
#include "model/bytes.h"

enum { SECRET_BYTES = 16, NAME_ROOM = 128 };

bool cache_secret_root(char *root, size_t root_bytes)
{
    const char *xdg  = getenv("XDG_CACHE_HOME");
    const char *home = getenv("HOME");
    int         n    = -1;

    if (xdg != NULL && xdg[0] == '/')
        n = snprintf(root, root_bytes, "%s", xdg);
    else if (home != NULL && home[0] == '/')
        n = snprintf(root, root_bytes, "%s/.cache", home);
    return n > 0 && (size_t)n + NAME_ROOM < root_bytes;
}

/* *absent: there is none. */
static base_status_t read_secret(const char *path, uint8_t *bytes, bool *absent, base_err_t *err)
{
    struct stat   info;
    base_status_t st = BASE_OK;
    int           fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOFOLLOW);

    *absent = fd < 0 && errno == ENOENT;
    if (*absent) return BASE_OK;
    if (fd < 0) return base_fail(err, BASE_ERR_IO, "%s: cannot read: %s", path, strerror(errno));
    if (fstat(fd, &info) != 0 || !S_ISREG(info.st_mode) || info.st_uid != geteuid() ||
        (info.st_mode & 077) != 0)
        st =
            base_fail(err, BASE_ERR_INPUT,
                      "%s: not a file that only its user may read: delete it (weights that --cache "
                      "keeps are then sent once more)",
                      path);
    else if (info.st_size != SECRET_BYTES || read(fd, bytes, SECRET_BYTES) != SECRET_BYTES)
        st = base_fail(err, BASE_ERR_INPUT, "%s: not %d bytes: delete it", path, SECRET_BYTES);
    (void)close(fd);
    return st;
}

/* The file appears whole, or another's was there first. False: it cannot be. */
static bool write_secret(const char *path, const uint8_t *bytes)
{
    char part[LIMIT_PATH_BYTES + 32];

    (void)snprintf(part, sizeof(part), "%s.%ld.part", path, (long)getpid());
    (void)unlink(part); /* of a process long dead with our number */
    int fd = open(part, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fd < 0) return false;
    bool good = write(fd, bytes, SECRET_BYTES) == SECRET_BYTES;
    good      = close(fd) == 0 && good && (link(part, path) == 0 || errno == EEXIST);
    (void)unlink(part);
    return good;
}

base_status_t cache_secret_load(model_secret_t *secret, base_err_t *err)
{
    char          path[LIMIT_PATH_BYTES];
    uint8_t       bytes[SECRET_BYTES];
    bool          absent = true;
    bool          place  = cache_secret_root(path, sizeof(path));
    size_t        n      = place ? strlen(path) : 0;
    base_status_t st     = BASE_OK;

    if (place) {
        (void)mkdir(path, 0700);
        (void)strcpy(path + n, "/trireme");
        (void)mkdir(path, 0700);
        (void)strcat(path, "/cache.secret");
        st = read_secret(path, bytes, &absent, err);
        if (st != BASE_OK) return st;
    }
    if (absent && getrandom(bytes, sizeof(bytes), 0) != (ssize_t)sizeof(bytes))
        return base_fail(err, BASE_ERR_SYSTEM, "getrandom: %s", strerror(errno));
    if (absent && place && write_secret(path, bytes)) { /* and another's counts */
        st = read_secret(path, bytes, &absent, err);
        if (st != BASE_OK) return st;
    }
    if (absent)
        base_log(
            BASE_LOG_WARN,
            "--cache: rank 0 has no place for the secret that its weights are kept under (%s): "
            "the next start will not know them. Set XDG_CACHE_HOME or HOME on rank 0",
            place ? path : "no home folder");
    secret->words[0] = model_load_u64(bytes);
    secret->words[1] = model_load_u64(bytes + 8);
    return BASE_OK;
}
