"""A batch of files: gathered or watched for, denoised one after the other, told of on the terminal."""
