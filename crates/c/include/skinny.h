/*
 * Runs sparse convolutional networks: the C interface of skinny-runtime.
 *
 * Made by cbindgen from crates/c/src/lib.rs; `SKINNY_UPDATE=1 cargo test --release -p skinny-c` makes it anew.
 */

#ifndef SKINNY_H
#define SKINNY_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

// What a call has come to; [`skinny_error`] says more.
typedef enum SkinnyStatus {
  // It is done.
  SKINNY_STATUS_OK = 0,
  // An argument cannot be: null where something must be, no text, a size that does not fit.
  SKINNY_STATUS_ARGUMENT = 1,
  // The file cannot be read or is wrong.
  SKINNY_STATUS_MODEL = 2,
  // The library is wrong; please report it.
  SKINNY_STATUS_INTERNAL = 3,
} SkinnyStatus;

// A network with its weights packed for this machine. Any number of threads may run one model at the same time.
typedef struct SkinnyModel SkinnyModel;

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

// One line on the last call of this thread that gave a status, empty if that was done. Valid until the next such call of this
// thread.
const char *skinny_error(void);

// Reads a `.skinny` file for a number of threads, 0 for all cores, into `*model`, which is null if it cannot. The number of
// threads never changes a bit of a result. Free the model with [`skinny_free`].
//
// # Safety
// `path` is null or ends with a zero byte; `model` is null or can be written to.
enum SkinnyStatus skinny_load(const char *path,
                              uint32_t threads,
                              struct SkinnyModel **model);

// Frees a model; null is nothing to free.
//
// # Safety
// `model` is null or comes from [`skinny_load`], and nobody uses it any more.
void skinny_free(struct SkinnyModel *model);

// Channels, height and width of an image that the network reads; their product is the number of its values.
//
// # Safety
// `model` is null or is not freed; `shape` is null or has room for three values.
enum SkinnyStatus skinny_input_shape(const struct SkinnyModel *model,
                                     size_t *shape);

// Values that the network gives for an image, e.g. a score for each class; 0 for null.
//
// # Safety
// `model` is null or is not freed.
size_t skinny_output_len(const struct SkinnyModel *model);

// Name of a class; null if the model does not name it. Valid until the model is freed.
//
// # Safety
// `model` is null or is not freed.
const char *skinny_label(const struct SkinnyModel *model, size_t class_);

// Makes of a picture the image that the network reads, as the model says: size, scale, mean and so on. The picture has a byte
// per value, row by row, the channels of a pixel side by side: 1 for grey, 3 for red, green and blue.
//
// # Safety
// `model` is null or is not freed; `pixels` is null or has `width * height * channels` bytes; `image` is null or has room for the
// values of one image.
enum SkinnyStatus skinny_prepare(const struct SkinnyModel *model,
                                 const uint8_t *pixels,
                                 size_t width,
                                 size_t height,
                                 size_t channels,
                                 float *image);

// Runs images, `[images, channels, height, width]`, into `[images, output]`.
//
// # Safety
// `model` is null or is not freed; `input` is null or has the values of the images; `output` is null or has room for their results,
// and overlaps with nothing.
enum SkinnyStatus skinny_run(const struct SkinnyModel *model,
                             const float *input,
                             size_t images,
                             float *output);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* SKINNY_H */
