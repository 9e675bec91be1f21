/* Delegates that do nothing, one per way in which a real one may behave; which one, the option "mode" says.
   The layout is TensorFlow Lite's, tensorflow/lite/core/c/common.h and external_delegate_interface.h. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

typedef struct TfLiteContext TfLiteContext;
typedef struct TfLiteDelegate {
  void *data_;
  int (*Prepare)(TfLiteContext *, struct TfLiteDelegate *);
  int (*CopyFromBufferHandle)(TfLiteContext *, struct TfLiteDelegate *, int, void *);
  int (*CopyToBufferHandle)(TfLiteContext *, struct TfLiteDelegate *, int, void *);
  void (*FreeBufferHandle)(TfLiteContext *, struct TfLiteDelegate *, int *);
  int64_t flags;
  void *opaque_delegate_builder;
} TfLiteDelegate;

static int takes_nothing(TfLiteContext *context, TfLiteDelegate *delegate) { return 0; /* kTfLiteOk */ }
static int fails(TfLiteContext *context, TfLiteDelegate *delegate) { return 2; /* kTfLiteDelegateError */ }

TfLiteDelegate *tflite_plugin_create_delegate(char **keys, char **values, size_t count, void (*report)(const char *)) {
  const char *mode = "";
  for (size_t i = 0; i < count; i++)
    if (!strcmp(keys[i], "mode")) mode = values[i];
  if (!strcmp(mode, "no device")) {
    report("no device found\non any bus");
    return NULL;
  }
  TfLiteDelegate *delegate = calloc(1, sizeof(TfLiteDelegate));
  delegate->Prepare = strcmp(mode, "fails") ? takes_nothing : fails;
  return delegate;
}

void tflite_plugin_destroy_delegate(TfLiteDelegate *delegate) { free(delegate); }
