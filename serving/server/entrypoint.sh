#!/bin/sh
# As tensorflow/serving's entry point: one model from the environment; flags given to `docker run` come last and win.
# The server takes this shell's place, so that it is process 1 and gets SIGTERM itself.
exec model-server --bind_address=0.0.0.0 --port=8500 --rest_api_port=8501 \
    --model_name="$MODEL_NAME" --model_base_path="$MODEL_BASE_PATH/$MODEL_NAME" "$@"
