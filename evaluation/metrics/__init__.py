"""One file per idea: each turns a prediction and a truth into numbers, with no file, model or image in sight."""
