/* The layers of a model and the rows of a pass, as `native.py` fills them in. */

#include "native_linear.h"

struct shape {
    long hidden, heads, kv_heads, size; /* size: of a head */
    float head_floor;
};

struct layer {
    struct matrix queries_keys_values, out, gate_up, down;
    const float *head_norms; /* [heads + kv_heads, size], or NULL */
    long window;             /* positions that are seen, the own included; 0 for all */
};

/* One row's part of a pass. Its cache is [layers, 2 kv heads, room, size]: keys, then values. Token i of the pass is slot
 * start + i and lies in column length + start + i. */
struct row {
    float *cache;
    long room;
    long length, start, count; /* committed tokens; slots before; tokens of the pass */
    const long *depths;        /* [start + count]: positions less `length`; NULL for a chain, where slot s has depth s */
    const unsigned char *seen; /* [count, start + count]: slots that a token sees; NULL for a chain: those up to its own */
    long first;                /* of its tokens among all of the pass */
};

/* Layers first … last - 1 over the tokens' states [tokens, hidden], in place.
 *
 * turns: [positions, size] rotary factors, pairs of real and imaginary parts. kept: for each layer from 0 to last where a
 * copy of its input [tokens, hidden] goes (of `last`: the result), or NULL. Room: heads [tokens, heads + 2 kv heads,
 * size]; mixed [tokens, heads, size]; wide [tokens, 2 inner]; before [tokens, the widest matrix]; scores [threads,
 * columns]. */
void draftproof_layers(
    const struct shape *shape, const struct layer *layers, long first, long last, const struct row *rows, long row_count,
    long tokens, float *states, const float *turns, float *const *kept, float *heads, float *mixed, float *wide,
    float *before, float *scores, long columns, int threads);
