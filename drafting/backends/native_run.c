/* Plain greedy decoding of several rows, some tokens at a time: each token's pass, its logits, and the largest of them.
 *
 * For a small model the interpreter takes longer between two passes than a pass takes. Compiled together with `native.c`.
 */

#include "native_layers.h"

#include <math.h>
#include <string.h>

/* Lookup of an embedding: float32, or the upper halves of it (bfloat16). */
static void embed(const void *table, int halves, long token, long width, float *out)
{
    if (!halves) {
        memcpy(out, (const float *)table + token * width, width * sizeof *out);
        return;
    }
    const uint16_t *from = (const uint16_t *)table + token * width;
    for (long k = 0; k < width; k++) {
        uint32_t word = (uint32_t)from[k] << 16;
        memcpy(out + k, &word, sizeof word);
    }
}

/* The largest, the lowest id of several; -1 if one is NaN or the largest is infinite. */
static long arg_max(const float *logits, long count)
{
    long best = 0;
    int numbers = 1;
    for (long v = 0; v < count; v++) {
        numbers &= logits[v] == logits[v];
        if (logits[v] > logits[best]) best = v;
    }
    return numbers && isfinite(logits[best]) ? best : -1;
}

/* Every row is fed its pending token, then what comes of it, until it has `most` tokens, comes upon one that it halts at
 * (which is kept), or upon logits that are no numbers (from which nothing is taken).
 *
 * rows: chains that begin at slot 0; `first` and `count` need not be set. wanted: what becomes of each. taps: layers whose
 * states are told, for each of which `kept` has room [rows, hidden], and NULL for the others.
 * Room: going [rows], place [rows], states [rows, hidden], fresh [rows, vocabulary], and that of `draftproof_layers`. */
struct wanted {
    long pending, most;
    const unsigned char *halts; /* [vocabulary] */
    long *tokens;               /* [most] */
    float *logits;              /* [most, vocabulary] */
    float *states;              /* [taps, most, hidden] */
    long made;                  /* how many it came to */
};

void draftproof_run(
    const struct shape *shape, const struct layer *layers, long n_layers, const struct matrix *head, const void *table,
    int halves, struct row *rows, struct wanted *wanted, long row_count, const float *turns, const long *taps,
    long tap_count, float *const *kept, struct row *going, long *place, float *states, float *fresh, float *heads,
    float *mixed, float *wide, float *before, float *scores, long columns, int threads)
{
    long vocabulary = head->out_width, hidden = shape->hidden;
    for (;;) {
        long count = 0;
        for (long r = 0; r < row_count; r++) {
            struct wanted *mine = wanted + r;
            if (mine->pending < 0 || mine->made == mine->most) continue;
            going[count] = rows[r];
            going[count].length += mine->made;
            going[count].count = 1;
            going[count].first = count;
            embed(table, halves, mine->pending, hidden, states + count * hidden);
            place[count++] = r;
        }
        if (!count) return;
        draftproof_layers(shape, layers, 0, n_layers, going, count, count, states, turns, kept, heads, mixed, wide,
                          before, scores, columns, threads);
        draftproof_linear(head, states, count, 0, fresh, before, threads);
        for (long g = 0; g < count; g++) {
            struct wanted *mine = wanted + place[g];
            const float *logits = fresh + g * vocabulary;
            mine->pending = arg_max(logits, vocabulary);
            if (mine->pending < 0) continue;
            memcpy(mine->logits + mine->made * vocabulary, logits, vocabulary * sizeof *logits);
            for (long k = 0; k < tap_count; k++)
                memcpy(mine->states + (k * mine->most + mine->made) * hidden, kept[taps[k]] + g * hidden,
                       hidden * sizeof *states);
            mine->tokens[mine->made++] = mine->pending;
            if (mine->halts[mine->pending]) mine->pending = -1;
        }
    }
}
