/* coordinator/utf8_stream.c
 * Two stages: bytes become whole characters (pending), characters join the text that is held back
 * (held) until no stop string can begin in it. Stop strings are looked for after each character, so
 * how the text was cut into pieces makes no difference. */
#include "coordinator/utf8_stream.h"

#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "base/limits.h"
#include "coordinator/utf8.h"

#define REPLACEMENT "\xEF\xBF\xBD" /* U+FFFD */
enum { REPLACEMENT_BYTES = 3 };

typedef struct {
    char  *text;
    size_t bytes;
} stop_t;

struct coord_stream {
    stop_t       *stops;
    size_t        n_stops;
    const stop_t *found;
    bool          drop_space; /* still to be done */
    size_t        piece_max;

    unsigned char pending[4];
    unsigned      n_pending;

    char  *held; /* [0, shown) was given out by the latest call and goes at the next */
    size_t n_held, shown, room;
};

static base_status_t copy_stops(coord_stream_t *s, const char *const *stops, size_t n_stops,
                                size_t *longest, base_err_t *err)
{
    void         *room = NULL;
    base_status_t st   = base_alloc(&room, n_stops, sizeof *s->stops, "stop strings", err);

    if (st != BASE_OK) return st;
    s->stops = room;
    for (size_t i = 0; i < n_stops; i++) {
        size_t bytes = strlen(stops[i]);

        if (bytes == 0) continue;
        if (bytes > LIMIT_TOKEN_BYTES)
            return base_fail(err, BASE_ERR_LIMIT, "stop string of %zu bytes, limit %d", bytes,
                             LIMIT_TOKEN_BYTES);
        st = base_alloc(&room, bytes + 1, 1, "stop string", err);
        if (st != BASE_OK) return st;
        memcpy(room, stops[i], bytes);
        s->stops[s->n_stops++] = (stop_t){.text = room, .bytes = bytes};
        if (*longest < bytes) *longest = bytes;
    }
    return BASE_OK;
}

base_status_t coord_stream_create(const char *const *stops, size_t n_stops, bool drop_space,
                                  size_t piece_max, coord_stream_t **out, base_err_t *err)
{
    coord_stream_t *s       = NULL;
    void           *room    = NULL;
    size_t          longest = 0;
    base_status_t   st      = BASE_OK;

    base_assert(out != NULL && (stops != NULL || n_stops == 0));
    if (n_stops > LIMIT_STOP_STRINGS)
        return base_fail(err, BASE_ERR_LIMIT, "%zu stop strings, limit %d", n_stops,
                         LIMIT_STOP_STRINGS);
    st = base_alloc(&room, 1, sizeof *s, "text stream", err);
    if (st != BASE_OK) goto out;
    s             = room;
    s->drop_space = drop_space;
    s->piece_max  = piece_max;
    st            = copy_stops(s, stops, n_stops, &longest, err);
    if (st != BASE_OK) goto out;
    /* Held back, then a piece of broken bytes only, then what was pending. */
    s->room = longest + (piece_max + 1) * REPLACEMENT_BYTES + sizeof s->pending;
    st      = base_alloc(&room, s->room, 1, "text stream", err);
    if (st != BASE_OK) goto out;
    s->held = room;
    *out    = s;
    s       = NULL;
out:
    coord_stream_destroy(&s);
    return st;
}

void coord_stream_destroy(coord_stream_t **stream)
{
    coord_stream_t *s = *stream;

    if (s == NULL) return;
    for (size_t i = 0; i < s->n_stops; i++) free(s->stops[i].text);
    free(s->stops);
    free(s->held);
    free(s);
    *stream = NULL;
}

/* A whole character joins; a stop string may end with it: the longest such one counts. */
static void add_character(coord_stream_t *s, const void *text, size_t bytes)
{
    base_assert(s->n_held + bytes <= s->room);
    memcpy(s->held + s->n_held, text, bytes);
    s->n_held += bytes;
    for (size_t i = 0; i < s->n_stops; i++) {
        const stop_t *stop = &s->stops[i];

        if (stop->bytes <= s->n_held && (s->found == NULL || s->found->bytes < stop->bytes) &&
            memcmp(s->held + s->n_held - stop->bytes, stop->text, stop->bytes) == 0)
            s->found = stop;
    }
    if (s->found != NULL) s->n_held -= s->found->bytes;
}

static void add_replacement(coord_stream_t *s)
{
    s->n_pending = 0;
    add_character(s, REPLACEMENT, REPLACEMENT_BYTES);
}

static void add_byte(coord_stream_t *s, unsigned char byte)
{
    unsigned length = coord_utf8_extend(s->pending, s->n_pending, byte);

    if (length == 0 && s->n_pending > 0) { /* what was pending stays unfinished */
        add_replacement(s);
        if (s->found != NULL) return;
        length = coord_utf8_extend(s->pending, 0, byte);
    }
    if (length == 0) {
        add_replacement(s);
        return;
    }
    s->pending[s->n_pending++] = byte;
    if (s->n_pending == length) {
        s->n_pending = 0;
        add_character(s, s->pending, length);
    }
}

/* Where the earliest beginning of a stop string starts in what is held. */
static size_t safe_bytes(const coord_stream_t *s)
{
    size_t safe = s->n_held;

    for (size_t i = 0; i < s->n_stops; i++) {
        const stop_t *stop = &s->stops[i];
        size_t        n    = stop->bytes - 1 < s->n_held ? stop->bytes - 1 : s->n_held;

        while (n > s->n_held - safe && memcmp(s->held + s->n_held - n, stop->text, n) != 0) n--;
        if (n > s->n_held - safe) safe = s->n_held - n;
    }
    return safe;
}

static void forget_shown(coord_stream_t *s)
{
    s->n_held -= s->shown;
    memmove(s->held, s->held + s->shown, s->n_held);
    s->shown = 0;
}

static bool show(coord_stream_t *s, size_t n, const char **text, size_t *bytes)
{
    s->shown = n;
    *text    = s->held;
    *bytes   = n;
    return s->found != NULL;
}

bool coord_stream_push(coord_stream_t *stream, const char *piece, size_t piece_bytes,
                       const char **text, size_t *bytes)
{
    coord_stream_t *s = stream;

    base_assert(piece_bytes <= s->piece_max);
    forget_shown(s);
    if (s->found != NULL) return show(s, 0, text, bytes);
    for (size_t i = 0; i < piece_bytes && s->found == NULL; i++) {
        bool drop = s->drop_space && piece[i] == ' ';

        s->drop_space = false;
        if (!drop) add_byte(s, (unsigned char)piece[i]);
    }
    return show(s, s->found != NULL ? s->n_held : safe_bytes(s), text, bytes);
}

bool coord_stream_flush(coord_stream_t *stream, const char **text, size_t *bytes)
{
    coord_stream_t *s = stream;

    forget_shown(s);
    if (s->found == NULL && s->n_pending > 0) add_replacement(s);
    return show(s, s->n_held, text, bytes);
}

const char *coord_stream_stop(const coord_stream_t *stream)
{
    return stream->found != NULL ? stream->found->text : NULL;
}
