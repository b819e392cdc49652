"""The proof: real servers under a steady load, blow after blow, and a judge who counts every message (`make chaos`)."""
