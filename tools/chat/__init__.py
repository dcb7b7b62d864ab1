"""What `check_chat.py` and the demo share about the chat of the examples."""
