"""Thresholds of near-duplicates."""

# Smallest centred cosine of a near-duplicate. Measured on 5,000 photos of CIFAR-10 with efficientnet_lite0 features:
# pairs at 0.85 or above are one photo with another crop, lighting or lettering, or one object in a series of photos.
# Between 0.80 and 0.85 such pairs mix with pairs that are only similar. 95 of 100 copies of the photos score at least
# 0.96 when scaled up, 0.94 when 10 % brighter, 0.90 when mirrored and 0.79 when cropped by one pixel per side. Strongly
# compressed copies score like unrelated photos, and no threshold finds them. 0.98 would miss every near-duplicate among
# the 5,000 photos. Sets of simple, uniform pictures (scanned digits) have unrelated pairs above 0.85, so that
# near-duplicates only cause a warning.
NEAR = 0.85

# Smallest centred cosine that makes two images one group, of which all but one may be dropped. It is above NEAR, so that
# hardly any different images are joined. Measured with efficientnet_lite0 features on 1,500 photos of CIFAR-10 with copies
# of 150 of them: no group joins different photos at 0.90 or above, and one does at 0.85. At 0.95 the share of copies that
# are joined is 0.87 when scaled up to 48 x 48 pixels, 0.81 when 10 % brighter and 0.43 when cropped by one pixel per side;
# at 0.90 it is 0.98, 0.95 and 0.87. JPEG copies of such small photos, and copies scaled down, are not found at either
# (0.10 and 0.13 at most). Among 500 scanned digits without copies, 0.95 joins none, 0.90 joins three pairs and 0.85 drops 38.
SAME = 0.95
