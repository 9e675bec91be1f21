"""``python -m model_server`` is the ``model-server`` command."""

from model_server.launch import main

main()
