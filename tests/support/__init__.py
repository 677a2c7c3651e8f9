"""What several test modules use. No test module is imported by another one."""
