"""Clients for any server that speaks TF Serving's protocols: ``rest.RestClient`` and ``grpc.GrpcClient``.

NumPy in and out, no TensorFlow. They import nothing of this repository outside this folder.
"""
