"""A trial's processes: started, listened to and ended by the parent."""
