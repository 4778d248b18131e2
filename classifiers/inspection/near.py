"""Threshold of near-duplicates."""

# Smallest centred cosine of a near-duplicate. Measured on 5,000 photos of CIFAR-10 with efficientnet_lite0 features:
# pairs at 0.85 or above are one photo with another crop, lighting or lettering, or one object in a series of photos.
# Between 0.80 and 0.85 such pairs mix with pairs that are only similar. 95 of 100 copies of the photos score at least
# 0.96 when scaled up, 0.94 when 10 % brighter, 0.90 when mirrored and 0.79 when cropped by one pixel per side. Strongly
# compressed copies score like unrelated photos, and no threshold finds them. 0.98 would miss every near-duplicate among
# the 5,000 photos. Sets of simple, uniform pictures (scanned digits) have unrelated pairs above 0.85, so that
# near-duplicates only cause a warning.
NEAR = 0.85
