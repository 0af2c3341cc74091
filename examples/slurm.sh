#!/bin/bash
# A sweep as a Slurm array: each task does its share of the runs. The folders must be seen by all nodes; give the same command
# again after a failure of the machine or a time limit, and only what is left is done. A run that diverged is tried again only
# when its folder is deleted.
#
#   sbatch examples/slurm.sh results/lenet5-methods/sweep.toml runs/lenet5-methods
#SBATCH --job-name=skinny
#SBATCH --array=0-7
#SBATCH --cpus-per-task=4
#SBATCH --mem=8G
#SBATCH --time=12:00:00
#SBATCH --signal=B:TERM@60
# Slurm tells the task its number and how many there are; the signal lets runs save their state in time.
exec skinny sweep "$1" --out "$2" --jobs "$SLURM_CPUS_PER_TASK" --threads 1
