/* coordinator/utf8_stream.h
 * From pieces of tokens to text that may be shown: whole UTF-8 characters only, and never past a
 * stop string.
 *
 * A piece can end inside a character, and inside what may become a stop string. The stream keeps
 * back the shortest such tail (up to 3 bytes of a character; up to the longest stop string less one
 * byte) and lets go of it once it is decided. Bytes that cannot be UTF-8 come out as U+FFFD, one
 * for each maximal broken part (Unicode 15, 3.9), so what comes out is always valid UTF-8. Stop
 * strings are compared with what comes out.
 * One thread per stream. Nothing is allocated after creation. */
#ifndef TRIREME_COORDINATOR_UTF8_STREAM_H
#define TRIREME_COORDINATOR_UTF8_STREAM_H

#include "base/status.h"

typedef struct coord_stream coord_stream_t;

/* stops      n_stops strings (0 .. LIMIT_STOP_STRINGS), NUL-terminated, copied; empty ones are
 *            ignored.
 * drop_space true: one space at the very beginning is dropped (SPM, when no text came before).
 * piece_max  the longest piece that will be pushed, bytes (coord_token_piece_max).
 * Status: OK | LIMIT | MEMORY. Local. */
base_status_t coord_stream_create(const char *const *stops, size_t n_stops, bool drop_space,
                                  size_t piece_max, coord_stream_t **out, base_err_t *err);
void          coord_stream_destroy(coord_stream_t **stream); /* accepts NULL, sets NULL */

/* Take a piece (0 .. piece_max bytes) and give what may be shown now: *text, the stream's, valid
 * until the next call, *bytes may be 0.
 * Returns true when a stop string is complete: *text then holds what precedes it, the stop string
 * and what follows are dropped, and further pushes give nothing. */
bool coord_stream_push(coord_stream_t *stream, const char *piece, size_t piece_bytes,
                       const char **text, size_t *bytes);

/* The end: give what was kept back (an unfinished character becomes U+FFFD). True: it completed a
 * stop string after all (one that holds U+FFFD); then as above. */
bool coord_stream_flush(coord_stream_t *stream, const char **text, size_t *bytes);

/* The stop string that was found, NULL if none. */
const char *coord_stream_stop(const coord_stream_t *stream);

#endif
