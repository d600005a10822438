/* model/source.c: the mapped files of a model, and checks of tensors against them. */
#include "model/source.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/arena.h"
#include "base/checked.h"
#include "model/blocks.h"

typedef struct {
    char          *path;
    const uint8_t *data;
    uint64_t       bytes;
    uint64_t       time_ns; /* of the last change */
    dev_t          device;
    ino_t          inode;
    bool           mapped; /* by us: to be unmapped */
    /* bytes given back since all were */
    _Atomic uint64_t dropped;
} source_file_t;

struct model_source {
    uint32_t          n_files;
    source_file_t    *files;
    model_generate_t *generate; /* NULL: the files are real */
    void             *context;
};

static base_status_t source_create(uint32_t n_files, model_source_t **out, base_err_t *err)
{
    model_source_t *s     = NULL;
    void           *files = NULL;
    void           *p     = NULL;
    base_status_t   st    = base_alloc(&p, 1, sizeof(*s), "model source", err);
    if (st == BASE_OK) st = base_alloc(&files, n_files, sizeof(source_file_t), "model files", err);
    if (st != BASE_OK) {
        free(p);
        return st;
    }
    s          = p;
    s->files   = files;
    s->n_files = n_files;
    *out       = s;
    return BASE_OK;
}

static base_status_t copy_path(source_file_t *f, const char *path, base_err_t *err)
{
    if (strlen(path) >= LIMIT_PATH_BYTES)
        return base_fail(err, BASE_ERR_LIMIT, "%.80s...: the path has %zu bytes, limit %d", path,
                         strlen(path), LIMIT_PATH_BYTES);
    f->path = strdup(path);
    if (f->path == NULL) return base_fail(err, BASE_ERR_MEMORY, "%s: no memory for the path", path);
    return BASE_OK;
}

static uint64_t change_ns(const struct stat *info)
{
    return (uint64_t)info->st_mtim.tv_sec * 1000000000u + (uint64_t)info->st_mtim.tv_nsec;
}

static base_status_t map_open_file(source_file_t *f, int fd, base_err_t *err)
{
    struct stat info;
    if (fstat(fd, &info) != 0)
        return base_fail(err, BASE_ERR_IO, "%s: cannot read: %s", f->path, strerror(errno));
    if (S_ISDIR(info.st_mode))
        return base_fail(err, BASE_ERR_UNSUPPORTED, "%s: is a directory, want a file", f->path);
    if (!S_ISREG(info.st_mode))
        return base_fail(err, BASE_ERR_IO, "%s: is no regular file; a model must be mapped",
                         f->path);
    if (info.st_size == 0)
        return base_fail(err, BASE_ERR_INPUT,
                         "%s: the file is empty (0 bytes); was its download "
                         "cut?",
                         f->path);
    void *p = mmap(NULL, (size_t)info.st_size, PROT_READ, MAP_SHARED, fd, 0);
    if (p == MAP_FAILED)
        return base_fail(err, BASE_ERR_IO, "%s: cannot map %" PRIu64 " bytes: %s", f->path,
                         (uint64_t)info.st_size, strerror(errno));
    f->data    = p;
    f->bytes   = (uint64_t)info.st_size;
    f->time_ns = change_ns(&info);
    f->device  = info.st_dev;
    f->inode   = info.st_ino;
    f->mapped  = true;
    return BASE_OK;
}

static base_status_t map_file(source_file_t *f, const char *path, base_err_t *err)
{
    base_status_t st = copy_path(f, path, err);
    if (st != BASE_OK) return st;
    /* O_NONBLOCK: a named pipe must be refused, not waited for. */
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0) return base_fail(err, BASE_ERR_IO, "%s: cannot open: %s", path, strerror(errno));
    st = map_open_file(f, fd, err);
    (void)close(fd);
    return st;
}

bool model_source_absent(const char *path)
{
    struct stat info;
    return lstat(path, &info) != 0 && errno == ENOENT;
}

base_status_t model_source_open(const char *const *paths, uint32_t n_paths, model_source_t **out,
                                base_err_t *err)
{
    model_source_t *s  = NULL;
    base_status_t   st = BASE_OK;

    base_assert(paths != NULL && out != NULL && n_paths > 0);
    if (n_paths > LIMIT_MODEL_FILES)
        return base_fail(err, BASE_ERR_LIMIT, "%s: one of %" PRIu32 " files, limit %d", paths[0],
                         n_paths, LIMIT_MODEL_FILES);
    st = source_create(n_paths, &s, err);
    if (st != BASE_OK) goto out;
    for (uint32_t i = 0; i < n_paths; i++) {
        st = map_file(&s->files[i], paths[i], err);
        if (st != BASE_OK) goto out;
    }
    *out = s;
    s    = NULL;
out:
    model_source_close(&s);
    return st;
}

base_status_t model_source_wrap(const void *bytes, uint64_t n_bytes, const char *label,
                                model_source_t **out, base_err_t *err)
{
    model_source_t *s  = NULL;
    base_status_t   st = source_create(1, &s, err);
    if (st != BASE_OK) goto out;
    st = copy_path(&s->files[0], label, err);
    if (st != BASE_OK) goto out;
    s->files[0].data  = bytes;
    s->files[0].bytes = n_bytes;
    *out              = s;
    s                 = NULL;
out:
    model_source_close(&s);
    return st;
}

base_status_t model_source_generate(model_generate_t *generate, void *context, const char *label,
                                    model_source_t **out, base_err_t *err)
{
    base_assert(generate != NULL);
    base_status_t st = model_source_wrap(NULL, 0, label, out, err);
    if (st != BASE_OK) return st;
    (*out)->generate = generate;
    (*out)->context  = context;
    return BASE_OK;
}

base_status_t model_source_remote(const char *const *paths, const uint64_t *bytes, uint32_t n_paths,
                                  model_generate_t *generate, void *context, model_source_t **out,
                                  base_err_t *err)
{
    model_source_t *s = NULL;
    base_assert(n_paths > 0 && n_paths <= LIMIT_MODEL_FILES && generate != NULL);
    base_status_t st = source_create(n_paths, &s, err);
    for (uint32_t i = 0; st == BASE_OK && i < n_paths; i++) {
        st                = copy_path(&s->files[i], paths[i], err);
        s->files[i].bytes = bytes[i];
    }
    if (st != BASE_OK) {
        model_source_close(&s);
        return st;
    }
    s->generate = generate;
    s->context  = context;
    *out        = s;
    return BASE_OK;
}

void model_source_drop(const model_source_t *source, const model_tensor_t *tensor, uint64_t row,
                       uint64_t n_rows)
{
    const uint64_t around = 64 << 10; /* a fault maps so many bytes, at a multiple of as many */
    const uint64_t often  = 16 << 20; /* what faults mapped besides goes with the whole file */
    if (tensor->type == MODEL_NONE || tensor->file >= source->n_files) return;
    source_file_t *f = &source->files[tensor->file];
    if (!f->mapped || n_rows == 0 || tensor->n_rows == 0) return;
    /* Rows that share bytes lie all over the tensor. */
    const bool     whole = model_type_info(tensor->type)->shared;
    const uint64_t bytes = whole ? 0 : model_row_bytes(tensor->type, tensor->n_cols);
    const uint64_t from  = tensor->offset + (whole ? 0 : row * bytes);
    const uint64_t to    = whole ? tensor->offset + tensor->bytes : from + n_rows * bytes;
    uint64_t       begin = from / around * around;
    uint64_t       end   = (to + around - 1) / around * around;
    if (atomic_fetch_add(&f->dropped, to - from) + (to - from) >= often) {
        atomic_store(&f->dropped, 0);
        begin = 0;
        end   = f->bytes;
    }
    end = end < f->bytes ? end : f->bytes;
    (void)madvise((void *)(uintptr_t)(f->data + begin), end - begin, MADV_DONTNEED);
}

void model_source_close(model_source_t **source)
{
    if (source == NULL || *source == NULL) return;
    model_source_t *s = *source;
    for (uint32_t i = 0; i < s->n_files; i++) {
        source_file_t *f = &s->files[i];
        if (f->mapped) (void)munmap((void *)(uintptr_t)f->data, f->bytes);
        free(f->path);
    }
    free(s->files);
    free(s);
    *source = NULL;
}

uint32_t model_source_count(const model_source_t *source)
{
    return source->n_files;
}

const char *model_source_path(const model_source_t *source, uint32_t file)
{
    base_assert(file < source->n_files);
    return source->files[file].path;
}

uint64_t model_source_bytes(const model_source_t *source, uint32_t file)
{
    base_assert(file < source->n_files);
    return source->files[file].bytes;
}

const uint8_t *model_source_data(const model_source_t *source, uint32_t file)
{
    base_assert(file < source->n_files);
    return source->files[file].data;
}

uint64_t model_source_time(const model_source_t *source, uint32_t file)
{
    base_assert(file < source->n_files);
    return source->files[file].time_ns;
}

base_status_t model_source_unchanged(const model_source_t *source, base_err_t *err)
{
    for (uint32_t i = 0; i < source->n_files; i++) {
        const source_file_t *f = &source->files[i];
        struct stat          info;
        if (!f->mapped || stat(f->path, &info) != 0 || info.st_dev != f->device ||
            info.st_ino != f->inode)
            continue;
        if ((uint64_t)info.st_size != f->bytes || change_ns(&info) != f->time_ns)
            return base_fail(err, BASE_ERR_INPUT,
                             "%s: was written while it was read; what was read may be of two "
                             "models. Start again when it is whole",
                             f->path);
    }
    return BASE_OK;
}

void model_source_forget(const model_source_t *source, uint32_t file)
{
    const source_file_t *f = &source->files[file];
    if (f->mapped) (void)madvise((void *)(uintptr_t)f->data, f->bytes, MADV_DONTNEED);
}

bool model_source_generated(const model_source_t *source)
{
    return source->generate != NULL;
}

base_status_t model_source_check(const model_source_t *source, const model_tensor_t *tensor,
                                 const char *name, base_err_t *err)
{
    uint64_t want = 0;
    uint64_t end  = 0;

    if (tensor->type == MODEL_NONE) return BASE_OK; /* absent: nothing to read */
    if (tensor->file >= source->n_files)
        return base_fail(err, BASE_ERR_INPUT,
                         "%s: tensor %s is said to be in file %" PRIu32 ", there are %" PRIu32,
                         source->files[0].path, name, tensor->file, source->n_files);
    const source_file_t *f = &source->files[tensor->file];
    if (tensor->type < MODEL_NONE || tensor->type >= MODEL_TYPE_COUNT)
        return base_fail(err, BASE_ERR_INPUT,
                         "%s: tensor %s has type number %d, which does not "
                         "exist",
                         f->path, name, (int)tensor->type);
    const model_type_info_t *info = model_type_info(tensor->type);
    if (tensor->n_rows == 0 || tensor->n_cols == 0)
        return base_fail(err, BASE_ERR_INPUT, "%s: tensor %s is empty (%" PRIu64 " x %" PRIu64 ")",
                         f->path, name, tensor->n_rows, tensor->n_cols);
    if (tensor->n_rows > LIMIT_VOCAB || tensor->n_cols > LIMIT_FFN)
        return base_fail(err, BASE_ERR_LIMIT,
                         "%s: tensor %s has %" PRIu64 " rows of %" PRIu64
                         " columns, limits %d and %d",
                         f->path, name, tensor->n_rows, tensor->n_cols, LIMIT_VOCAB, LIMIT_FFN);
    if (tensor->n_cols % info->block_elems != 0)
        return base_fail(err, BASE_ERR_INPUT,
                         "%s: tensor %s has rows of %" PRIu64
                         " weights, but %s stores blocks of %" PRIu32,
                         f->path, name, tensor->n_cols, info->name, info->block_elems);
    if (!model_tensor_bytes(tensor->type, tensor->n_rows, tensor->n_cols, &want) ||
        want != tensor->bytes)
        return base_fail(err, BASE_ERR_INPUT,
                         "%s: tensor %s claims %" PRIu64 " bytes, its shape "
                         "needs %" PRIu64,
                         f->path, name, tensor->bytes, want);
    if (source->generate != NULL && f->bytes == 0) return BASE_OK; /* there is no file */
    if (!base_add_u64(tensor->offset, tensor->bytes, &end))
        return base_fail(err, BASE_ERR_INPUT,
                         "%s: tensor %s is said to begin at byte %" PRIu64 ": damaged directory?",
                         f->path, name, tensor->offset);
    if (end > f->bytes)
        return base_fail(err, BASE_ERR_INPUT,
                         "%s: the file is cut: %" PRIu64 " bytes, tensor %s "
                         "needs %" PRIu64 "; was its download complete?",
                         f->path, f->bytes, name, end);
    return BASE_OK;
}

const uint8_t *model_tensor_data(const model_source_t *source, const model_tensor_t *tensor)
{
    base_assert(source->generate == NULL && tensor->file < source->n_files);
    return source->files[tensor->file].data + tensor->offset;
}

const uint8_t *model_row(const model_source_t *source, const model_tensor_t *tensor, uint64_t row)
{
    base_assert(row < tensor->n_rows);
    return model_tensor_data(source, tensor) + row * model_row_bytes(tensor->type, tensor->n_cols);
}

const uint8_t *model_row_blocks(const model_source_t *source, const model_tensor_t *tensor,
                                uint64_t row, uint64_t block, uint64_t n, uint8_t *scratch)
{
    const model_type_info_t *info = model_type_info(tensor->type);
    if (source->generate == NULL) return model_row(source, tensor, row) + block * info->block_bytes;
    base_assert(row < tensor->n_rows);
    source->generate(source->context, tensor, row, block, n, scratch);
    return scratch;
}

void model_row_copy(const model_source_t *source, const model_tensor_t *tensor, uint64_t row,
                    uint8_t *out)
{
    const model_type_info_t *info  = model_type_info(tensor->type);
    uint64_t                 n     = tensor->n_cols / info->block_elems;
    const uint8_t           *bytes = model_row_blocks(source, tensor, row, 0, n, out);
    if (bytes != out) memcpy(out, bytes, model_row_bytes(tensor->type, tensor->n_cols));
}
