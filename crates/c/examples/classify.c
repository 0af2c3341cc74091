/* Classifies one raw picture: its bytes row by row, the channels of a pixel side by side, of the size that the network reads. */

#include <stdio.h>
#include <stdlib.h>

#include "skinny.h"

static int failed(const char *what) {
    fprintf(stderr, "%s: %s\n", what, skinny_error());
    return 1;
}

int main(int count, char **arguments) {
    if (count != 3) {
        fprintf(stderr, "usage: classify MODEL.skinny PICTURE.raw\n");
        return 2;
    }
    SkinnyModel *model = NULL;
    if (skinny_load(arguments[1], 1, &model) != SKINNY_STATUS_OK) {
        return failed("load");
    }
    size_t shape[3];
    if (skinny_input_shape(model, shape) != SKINNY_STATUS_OK) {
        return failed("shape");
    }
    size_t values = shape[0] * shape[1] * shape[2];
    size_t classes = skinny_output_len(model);
    unsigned char *pixels = malloc(values);
    float *image = malloc(values * sizeof *image);
    float *scores = malloc(classes * sizeof *scores);
    FILE *file = fopen(arguments[2], "rb");
    if (!pixels || !image || !scores || !file || fread(pixels, 1, values, file) != values) {
        fprintf(stderr, "%s: cannot read %zu bytes\n", arguments[2], values);
        return 1;
    }
    fclose(file);

    if (skinny_prepare(model, pixels, shape[2], shape[1], shape[0], image) != SKINNY_STATUS_OK) {
        return failed("prepare");
    }
    if (skinny_run(model, image, 1, scores) != SKINNY_STATUS_OK) {
        return failed("run");
    }
    size_t best = 0;
    for (size_t class_ = 1; class_ < classes; class_++) {
        if (scores[class_] > scores[best]) {
            best = class_;
        }
    }
    const char *label = skinny_label(model, best);
    if (label) {
        printf("%s: %.9g\n", label, scores[best]);
    } else {
        printf("%zu: %.9g\n", best, scores[best]);
    }

    free(scores);
    free(image);
    free(pixels);
    skinny_free(model);
    return 0;
}
