"""What differs between tasks; one folder for each kind of task."""
