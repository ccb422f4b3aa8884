from hypothesis import settings

# A loaded machine makes single examples slow; what an example computes is what counts here.
settings.register_profile("sdk", deadline=None)
settings.load_profile("sdk")
