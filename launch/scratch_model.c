/* launch/scratch_model.c: temporary synthetic models. */
#include "launch/scratch_model.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/arena.h"
#include "base/log.h"
#include "quantize/synth.h"

enum { PATH_BYTES = 1024 };

struct scratch_model {
    char folder[PATH_BYTES];
    char path[PATH_BYTES + 32];
    bool owner; /* this rank wrote it and removes it */
};

/* ---- the folder goes, also when a signal ends the process ---- */

static const int guarded[] = {SIGINT, SIGTERM, SIGHUP};
enum { GUARDED_COUNT = sizeof(guarded) / sizeof(guarded[0]) };

static int              guard_fd = -1; /* the open folder: a signal handler may unlinkat() in it */
static char             guard_folder[PATH_BYTES];
static struct sigaction guard_before[GUARDED_COUNT];

/* Remove everything in the open folder, then the folder. Async-signal-safe, so no opendir(). */
static void remove_folder(int fd, const char *folder)
{
    struct entry { /* linux_dirent64 */
        uint64_t inode;
        int64_t  offset;
        uint16_t bytes;
        uint8_t  type;
        char     name[];
    };
    _Alignas(8) char buf[1024];
    long             n = 0;

    (void)lseek(fd, 0, SEEK_SET);
    while ((n = syscall(SYS_getdents64, fd, buf, sizeof(buf))) > 0)
        for (long at = 0; at < n;) {
            const struct entry *e = (const void *)(buf + at);
            if (strcmp(e->name, ".") != 0 && strcmp(e->name, "..") != 0)
                (void)unlinkat(fd, e->name, 0);
            at += e->bytes;
        }
    (void)rmdir(folder);
}

/* Then what was before. */
static void on_signal(int number)
{
    int code = errno;

    if (guard_fd >= 0) remove_folder(guard_fd, guard_folder);
    errno = code;
    for (int i = 0; i < GUARDED_COUNT; i++) {
        if (guarded[i] != number) continue;
        if (guard_before[i].sa_handler == SIG_IGN) return;
        if (guard_before[i].sa_handler != SIG_DFL) {
            guard_before[i].sa_handler(number);
            return;
        }
        (void)signal(number, SIG_DFL);
        (void)raise(number);
    }
}

static void guard_start(const char *folder)
{
    struct sigaction action;

    (void)snprintf(guard_folder, sizeof(guard_folder), "%s", folder);
    guard_fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    memset(&action, 0, sizeof(action));
    (void)sigemptyset(&action.sa_mask);
    action.sa_handler = on_signal;
    for (int i = 0; i < GUARDED_COUNT; i++) (void)sigaction(guarded[i], &action, &guard_before[i]);
}

static void guard_end(void)
{
    for (int i = 0; i < GUARDED_COUNT; i++) (void)sigaction(guarded[i], &guard_before[i], NULL);
    if (guard_fd >= 0) (void)close(guard_fd);
    guard_fd = -1;
}

/* ---- making it ---- */

static base_status_t make_folder(scratch_model_t *s, base_err_t *err)
{
    const char *base = getenv("TMPDIR");

    if (base == NULL || base[0] == '\0') base = "/tmp";
    if (strlen(base) + 32 > sizeof(s->folder))
        return base_fail(err, BASE_ERR_IO, "TMPDIR is too long: %.64s...", base);
    (void)snprintf(s->folder, sizeof(s->folder), "%s/trireme-bench-XXXXXX", base);
    if (mkdtemp(s->folder) == NULL)
        return base_fail(err, BASE_ERR_IO, "%s: cannot make a folder for the synthetic model: %s",
                         base, strerror(errno));
    s->owner = true;
    return BASE_OK;
}

/* Rank 0 names the folder. The first rank of another machine finds it there (a shared file system)
 * or makes its own. */
static base_status_t share_folder(comm_world_t *world, scratch_model_t *s, base_err_t *err)
{
    size_t        bytes = 0;
    base_status_t st    = BASE_OK;

    if (comm_rank(world) == 0) return comm_control_send(world, s->folder, sizeof(s->folder), err);
    st = comm_control_recv(world, s->folder, sizeof(s->folder), &bytes, err);
    if (st != BASE_OK) return st;
    s->folder[sizeof(s->folder) - 1] = '\0';
    if (comm_local_rank(world) != 0) return BASE_OK;
    if (mkdir(s->folder, 0700) == 0)
        s->owner = true;
    else if (errno != EEXIST)
        st = base_fail(err, BASE_ERR_IO, "%s: %s", s->folder, strerror(errno));
    return st;
}

static base_status_t write_model(const options_t *o, const scratch_model_t *s, base_err_t *err)
{
    const quant_shape_t *shape = quant_shape_find(opt_string(o, OPT_SHAPE));
    model_type_t         type  = quant_type_find(opt_string(o, OPT_TYPE));
    model_type_t         embed = quant_type_find(opt_string(o, OPT_EMBED_TYPE));

    base_assert(shape != NULL && type != MODEL_NONE && embed != MODEL_NONE); /* choices */
    base_log(BASE_LOG_INFO, "writing a synthetic %s model to %s", shape->name, s->path);
    return quant_synth_write(s->path, shape, type, embed, (uint64_t)opt_int(o, OPT_SYNTH_SEED), 0,
                             err);
}

base_status_t scratch_model_make(comm_world_t *world, const options_t *o, scratch_model_t **out,
                                 base_err_t *err)
{
    scratch_model_t *s      = NULL;
    void            *memory = NULL;
    base_status_t    st     = base_alloc(&memory, 1, sizeof(*s), "the synthetic model", err);

    s = memory;
    if (st == BASE_OK && comm_rank(world) == 0) st = make_folder(s, err);
    st = comm_agree(world, st, err);
    if (st != BASE_OK) goto out;
    if (s->owner) guard_start(s->folder);
    st = share_folder(world, s, err);
    if (s->owner && guard_fd < 0) guard_start(s->folder);
    (void)snprintf(s->path, sizeof(s->path), "%s/model.gguf", s->folder);
    if (st == BASE_OK && s->owner) st = write_model(o, s, err);
    st = comm_agree(world, st, err);
    if (st != BASE_OK) goto out;
    *out = s;
    s    = NULL;
out:
    scratch_model_destroy(&s);
    return st;
}

const char *scratch_model_path(const scratch_model_t *scratch)
{
    return scratch->path;
}

void scratch_model_remove(scratch_model_t *scratch)
{
    if (!scratch->owner) return;
    scratch->owner = false;
    if (guard_fd >= 0) remove_folder(guard_fd, scratch->folder);
    guard_end();
}

void scratch_model_destroy(scratch_model_t **scratch)
{
    if (*scratch == NULL) return;
    scratch_model_remove(*scratch);
    free(*scratch);
    *scratch = NULL;
}
