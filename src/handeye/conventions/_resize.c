/* Pillow's resampling of 8-bit RGB, bit for bit, from and into plain arrays: two passes, along the rows and then along
 * the columns, each with integer weights of 22 bits, rounded and cut off to 8 bits. pillow.py computes the weights, says
 * where everything lies, and has the sources.
 *
 * What makes it faster than Pillow is what it does not do: no copies into four bytes a pixel and back, none of a picture
 * that is stored mirrored or upside down, and wherever it can it works on many numbers at a time.
 */

#include <stdint.h>

#define BITS 22
#define HALF (1 << (BITS - 1))

typedef int32_t four __attribute__((vector_size(16), aligned(4), may_alias));

#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__) && defined(__linux__)
#define FOR_SEVERAL_PROCESSORS __attribute__((target_clones("avx2", "default")))
#else
#define FOR_SEVERAL_PROCESSORS
#endif

/* Raised by one when an argument of handeye_resize changes its meaning. */
int64_t handeye_resize_version(void) { return 1; }

static inline uint8_t cut(int32_t sum) {
    sum >>= BITS;
    return sum < 0 ? 0 : sum > 255 ? 255 : (uint8_t)sum;
}

FOR_SEVERAL_PROCESSORS
static void widen(const uint8_t *restrict in, int32_t *restrict out, int64_t many) {
    for (int64_t i = 0; i < many; i++) out[i] = in[i];
}

/* One row of `width` pixels, each the sum of `count` pixels from `first` on, each with its weight. `in`: the row's first
 * pixel, `step` numbers before the second (negative: it is stored mirrored). Four numbers are added at a time, of which
 * the last is another pixel's and is overwritten by it: behind the last pixels of `in` and `sums` is room for one. */
FOR_SEVERAL_PROCESSORS
static void along(const int32_t *restrict in, int64_t step, int32_t *restrict sums, uint8_t *restrict out,
                  int64_t width, const int32_t *restrict first, const int32_t *restrict count,
                  const int32_t *restrict weights, int64_t taps) {
    for (int64_t x = 0; x < width; x++) {
        const int32_t *pixel = in + step * first[x], *weight = weights + x * taps;
        four sum = {HALF, HALF, HALF, HALF};
        for (int32_t k = 0; k < count[x]; k++) sum += *(const four *)(pixel + step * k) * weight[k];
        *(four *)(sums + 3 * x) = sum;
    }
    for (int64_t i = 0; i < 3 * width; i++) out[i] = cut(sums[i]);
}

/* One row of `bytes` channels, each the sum of those in `count` rows, each with its row's weight. */
FOR_SEVERAL_PROCESSORS
static void across(const uint8_t *restrict rows, uint8_t *restrict out, int64_t bytes, int32_t count,
                   const int32_t *restrict weight) {
    int32_t sums[64];
    for (int64_t start = 0; start < bytes; start += 64) {
        int64_t many = bytes - start < 64 ? bytes - start : 64;
        for (int64_t i = 0; i < 64; i++) sums[i] = HALF;
        for (int32_t k = 0; k < count; k++) {
            const uint8_t *row = rows + k * bytes + start;
            if (many == 64) {
                for (int64_t i = 0; i < 64; i++) sums[i] += row[i] * weight[k];
            } else {
                for (int64_t i = 0; i < many; i++) sums[i] += row[i] * weight[k];
            }
        }
        for (int64_t i = 0; i < many; i++) out[start + i] = cut(sums[i]);
    }
}

/* `in`: `frames` pictures of high x wide pixels, `next_*` bytes from one to the next; rows may lie upside down, pixels
 * mirrored (next_pixel is 3 or -3). `out`: frames x height x width x 3. Room for what lies in between: `rows`, high x
 * width x 3; `numbers`, 3 wide + 1; `sums`, 3 width + 1. Per target pixel of each direction: its first source pixel, how
 * many there are, and `taps` places for their weights. Null where a direction keeps its size. */
void handeye_resize(const uint8_t *in, int64_t frames, int64_t high, int64_t wide, int64_t next_frame, int64_t next_row,
                    int64_t next_pixel, uint8_t *out, int64_t height, int64_t width, uint8_t *rows, int32_t *numbers,
                    int32_t *sums, const int32_t *x_first, const int32_t *x_count, const int32_t *x_weights,
                    int64_t x_taps, const int32_t *y_first, const int32_t *y_count, const int32_t *y_weights,
                    int64_t y_taps) {
    int64_t bytes = 3 * width, back = next_pixel < 0 ? 3 * (wide - 1) : 0;
    for (int64_t n = 0; n < frames; n++, in += next_frame, out += height * bytes) {
        uint8_t *target = y_first ? rows : out;
        const uint8_t *row = in;
        for (int64_t y = 0; y < high; y++, row += next_row, target += bytes) {
            if (x_first) {
                widen(row - back, numbers, 3 * wide);
                along(numbers + back, next_pixel, sums, target, width, x_first, x_count, x_weights, x_taps);
            } else {
                for (int64_t x = 0; x < width; x++)
                    for (int c = 0; c < 3; c++) target[3 * x + c] = row[x * next_pixel + c];
            }
        }
        for (int64_t y = 0; y_first && y < height; y++)
            across(rows + y_first[y] * bytes, out + y * bytes, bytes, y_count[y], y_weights + y * y_taps);
    }
}
