@echo off
rem Fill in the two lines; the token of this machine: gifty-compute tokens create home-1
set GIFTY_COMPUTE_URL=https://compute.example.com
set GIFTY_WORKER_TOKEN=gwt_
"%USERPROFILE%\gifty-worker\venv\Scripts\gifty-worker.exe" --worker-id home-1 --deadline 9h
