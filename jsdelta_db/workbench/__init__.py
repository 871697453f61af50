"""An open workspace: store, tracker, progress; its data sets and models in use."""
