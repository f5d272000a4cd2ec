"""A batch of files: found or watched for, denoised one after the other, reported on the
terminal."""
