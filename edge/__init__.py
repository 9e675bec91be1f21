"""What runs on the device: .tflite files behind a small HTTP service. Imports from no other room."""
